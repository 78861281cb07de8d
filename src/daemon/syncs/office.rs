//! What models need on the disk, opened before anything runs.

use std::path::Path;
use std::sync::Arc;

use super::keeper::Shown;
use super::{folder, socket};
use crate::config::{Config, Model};
use crate::dead_letters::Rejections;
use crate::ingest::Door;
use crate::route::SourceId;

/// The socket, and what is remembered of each model.
pub(in crate::daemon) struct Office {
    pub(super) door: Door,
    pub(super) desks: Vec<Desk>,
}

/// A model, and the source that it is.
pub(super) struct Desk {
    pub(super) source: SourceId,
    pub(super) model: Model,
    pub(super) shown: Arc<Shown>,
}

/// Opens what the models of a config need; nothing, where there are none.
///
/// # Errors
/// A sentence.
pub(in crate::daemon) fn open(config: &Config) -> Result<(Option<Office>, Rejections), String> {
    let data_dir = config.daemon.data_dir.as_deref().filter(|_| !config.models.is_empty());
    let Some(data_dir) = data_dir else { return Ok((None, Rejections::default())) };
    let folder = folder(data_dir);
    let door = Door::bind(&socket(&folder)).map_err(|error| error.to_string())?;
    // They come behind the sources.
    let first = u16::try_from(config.sources.len()).unwrap_or(u16::MAX);
    let mut desks = Vec::new();
    for (source, model) in (first..).map(SourceId).zip(&config.models) {
        let shown = Shown::open(&folder, &model.name).map_err(|error| {
            format!("models.{}: the history can't be read: {error}", model.name)
        })?;
        desks.push(Desk { source, model: model.clone(), shown: Arc::new(shown) });
    }
    let office = Office { door, desks };
    let names: Vec<_> = office.models().map(|(source, name)| (source, name.to_owned())).collect();
    let rejections = Rejections::open(&folder, &names).map_err(|error| error.to_string())?;
    Ok((Some(office), rejections))
}

impl Office {
    /// Where everything is.
    pub(in crate::daemon) fn folder(&self) -> &Path {
        self.door.path().parent().unwrap_or(Path::new("."))
    }

    /// The models by their numbers as sources.
    pub(in crate::daemon) fn models(&self) -> impl Iterator<Item = (SourceId, &str)> {
        self.desks.iter().map(|desk| (desk.source, desk.model.name.as_str()))
    }
}
