//! The yardstick: copies every byte of its input to all of its outputs and looks at none.
//!
//! Owns: a process of its own, so that its CPU time can be told from everybody else's. Does not
//! own: any notion of lines, events or consent.
//!
//! Always: what was read is written to every output before more is read. That is the least that
//! any program between the same sockets and files has to do.

mod http;

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use crate::send::CHUNK_BYTES;
use crate::sink::Output;

/// How the bytes come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Input {
    /// One raw connection after the other.
    Tcp,
    /// Bodies of `POST`, over any number of connections.
    Http,
}

/// Relays until the process is ended from outside.
///
/// # Errors
/// When the port cannot be had, an output cannot be reached, or input and outputs do not go
/// together.
pub fn run(input: Input, listen: SocketAddr, outputs: &[Output]) -> io::Result<()> {
    match input {
        Input::Tcp => run_tcp(listen, outputs),
        Input::Http => http::run(listen, outputs),
    }
}

fn run_tcp(listen: SocketAddr, outputs: &[Output]) -> io::Result<()> {
    let mut outputs = outputs.iter().map(open).collect::<io::Result<Vec<_>>>()?;
    let listener = TcpListener::bind(listen)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let (mut stream, _) = listener.accept()?;
        loop {
            let count = stream.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            for output in &mut outputs {
                output.write_all(&buffer[..count])?;
            }
        }
    }
}

fn open(output: &Output) -> io::Result<Box<dyn Write>> {
    Ok(match output {
        Output::Tcp(address) => Box::new(TcpStream::connect(address)?),
        Output::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        Output::Blackhole => Box::new(io::sink()),
        Output::Http(..) => {
            return Err(io::Error::other("raw bytes cannot be relayed to HTTP"));
        }
    })
}
