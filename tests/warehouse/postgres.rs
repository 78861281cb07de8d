//! One PostgreSQL server for the whole binary, and a database for each test.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::tools;

/// Of the superuser, and of the users that tests make.
pub(crate) const PASSWORD: &str = "correct-horse-battery";

/// Makes the server, runs it until standard input ends, which it does whenever and however this process
/// does, and removes it. `$1` is its folder, `$2` and `$3` are programs, and the rest runs them as
/// somebody else.
const RUN: &str = r#"
folder="$1" initdb="$2" postgres="$3"; shift 3
cd "$folder" || exit
"$@" "$initdb" -D "$folder/db" -U postgres --auth=scram-sha-256 --pwfile="$folder/password" \
  --locale=C --encoding=UTF8 --no-sync >initdb.log 2>&1 || { read -r end; rm -rf "$folder"; exit 1; }
"$@" "$postgres" -D "$folder/db" -c listen_addresses= -c "unix_socket_directories=$folder" \
  -c fsync=off -c max_connections=200 -c timezone=UTC >server.log 2>&1 &
server=$!
read -r end
kill -QUIT $server; wait $server
rm -rf "$folder"
"#;

/// The server.
struct Server {
    folder: PathBuf,
    _process: Child,
    /// Its end is the server's.
    _stdin: ChildStdin,
}

/// A database of its own, in which the user `reader` may read and do nothing else.
pub(crate) struct Database {
    name: String,
}

impl Database {
    /// Makes one, of this SQL.
    #[track_caller]
    pub(crate) fn new(sql: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", COUNT.fetch_add(1, Relaxed));
        Self { name: "postgres".to_owned() }.sql(&format!("create database {name}"));
        let database = Self { name };
        database.sql(&format!(
            "alter default privileges in schema public grant select on tables to reader;{sql}"
        ));
        database
    }

    /// Runs statements as the superuser; what they print.
    #[track_caller]
    pub(crate) fn sql(&self, sql: &str) -> String {
        let mut psql = tools::postgresql("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f", "-", "-d"])
            .arg(self.uri_of("postgres"));
        let mut psql = psql
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        psql.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let done = psql.wait_with_output().unwrap();
        assert!(done.status.success(), "{sql}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// Over the server's unix socket.
    pub(crate) fn uri_of(&self, user: &str) -> String {
        let folder = server().folder.display();
        format!("postgresql://{user}:{PASSWORD}@/{}?host={folder}", self.name)
    }

    /// Over a TCP port that leads to the server.
    pub(crate) fn uri_through(&self, port: u16) -> String {
        format!("postgresql://reader:{PASSWORD}@127.0.0.1:{port}/{}", self.name)
    }

    /// The body of `[warehouses.main]`, as the user that may only read.
    pub(crate) fn warehouse(&self) -> String {
        warehouse(&self.uri_of("reader"))
    }
}

/// The body of `[warehouses.main]` for a URI.
pub(crate) fn warehouse(uri: &str) -> String {
    let library = tools::driver("libadbc_driver_postgresql.so");
    format!("driver = \"postgresql\"\npath = {library:?}\nuri = \"{uri}\"")
}

/// The server's unix socket.
pub(crate) fn socket() -> PathBuf {
    server().folder.join(".s.PGSQL.5432")
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("consentd-postgresql-").tempdir().unwrap();
        // The process below removes it.
        let folder = folder.keep();
        std::fs::write(folder.join("password"), PASSWORD).unwrap();
        let program = |name| tools::postgresql(name).get_program().to_owned();
        let mut run = Command::new("sh");
        run.args(["-c", RUN, "sh"]).arg(&folder).arg(program("initdb")).arg(program("postgres"));
        if rustix::process::geteuid().is_root() {
            // PostgreSQL refuses to run as root.
            let nobody = 65_534;
            std::os::unix::fs::chown(&folder, Some(nobody), Some(nobody)).unwrap();
            run.args(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]);
        } else {
            run.arg("env");
        }
        let mut process = run.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let server = Self { folder, _process: process, _stdin: stdin };
        server.wait();
        server
    }

    fn wait(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        let make = format!("create role reader login password '{PASSWORD}'");
        loop {
            let uri = format!("postgresql://postgres:{PASSWORD}@/?host={}", self.folder.display());
            let mut psql = tools::postgresql("psql");
            let tried = psql.args(["-X", "-q", "-c", &make, "-d", &uri]).output().unwrap();
            if tried.status.success() {
                return;
            }
            let said = |name: &str| read(&self.folder.join(name));
            assert!(
                Instant::now() < until,
                "PostgreSQL does not start:\n{}{}{}",
                said("initdb.log"),
                said("server.log"),
                String::from_utf8_lossy(&tried.stderr)
            );
            sleep(Duration::from_millis(50));
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}
