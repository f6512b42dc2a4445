//! A replica set of one or more members, or a standalone server. It runs until its value is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bson::{Document, doc};

use super::member::{Member, PATIENCE, POLL};
use super::{Failure, find_binary};
use crate::guarded::TemporaryFolder;

/// The first user of a set with access control. This user has all privileges.
const ROOT_USER: &str = "root";
const ROOT_PASSWORD: &str = "password-of-a-test";
/// The default size of the cache of a server, in GB.
const SMALL_CACHE: f64 = 0.5;

/// The options of a replica set.
#[derive(Debug, Clone)]
pub struct Options {
    /// The number of members. All have data and a vote. The default is 1.
    pub members: usize,
    /// The size of the oplog in MB; `None` for MongoDB's default.
    pub oplog_megabytes: Option<u32>,
    /// True when clients must log in. The connection string then has a user with all privileges. The default is false.
    pub access_control: bool,
    /// The value of `LD_PRELOAD` for each member, in their order. Members without a value have no `LD_PRELOAD`.
    pub preload: Vec<String>,
    /// A PEM file with a certificate and its key. With it, the members accept TLS and plain connections.
    pub certificate: Option<PathBuf>,
    /// The size of the cache of the storage engine of each member, in GB. The default is small, because a dozen servers run at once.
    pub cache_gigabytes: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            members: 1,
            oplog_megabytes: None,
            access_control: false,
            preload: Vec::new(),
            certificate: None,
            cache_gigabytes: SMALL_CACHE,
        }
    }
}

/// A running replica set. Dropping it stops every member and removes the data.
#[derive(Debug)]
pub struct ReplicaSet {
    name: String,
    access_control: bool,
    // Fields are dropped in their order: members must end before their files are removed.
    members: Vec<Member>,
    _folder: TemporaryFolder,
}

impl ReplicaSet {
    /// Starts the members and initiates the set. Returns when there is a primary and all other members are secondaries.
    ///
    /// # Errors
    /// When no `mongod` is found (see [`find_binary`]), or `mongod` does not start.
    pub fn start(options: &Options) -> Result<Self, Failure> {
        let program = find_binary()?;
        let folder = temporary_folder()?;
        // Each set has a random name, so that a client with an old URI does not accept another set on the same port.
        let name = format!("rs{:08x}", rand::random::<u32>());
        let mut arguments = cache(options.cache_gigabytes);
        arguments.extend(["--replSet".to_owned(), name.clone()]);
        if let Some(megabytes) = options.oplog_megabytes {
            arguments.extend(["--oplogSize".to_owned(), megabytes.to_string()]);
            // The oplog keeps all entries since the last checkpoint of the storage engine. MongoDB's default of one
            // checkpoint a minute would keep the oplog larger than its size.
            arguments.extend(["--syncdelay".to_owned(), "1".to_owned()]);
        }
        if options.access_control {
            arguments.extend(["--keyFile".to_owned(), write_key(folder.path())?]);
        }
        if let Some(certificate) = &options.certificate {
            let certificate = certificate.to_string_lossy().into_owned();
            arguments.extend(["--tlsMode".to_owned(), "allowTLS".to_owned()]);
            arguments.extend(["--tlsCertificateKeyFile".to_owned(), certificate]);
        }
        let members = (0..options.members.max(1))
            .map(|index| {
                let data = folder.path().join(format!("member-{index}"));
                let preload = options.preload.get(index).filter(|preload| !preload.is_empty());
                Member::start(&program, preload.cloned(), data, arguments.clone())
            })
            .collect::<Result<Vec<Member>, Failure>>()?;
        let mut set = Self { name, access_control: options.access_control, members, _folder: folder };
        set.initiate()?;
        set.wait_until_healthy()?;
        if set.access_control {
            set.create_root()?;
        }
        Ok(set)
    }

    /// The connection string: all members, the name of the set, and with access control the user.
    #[must_use]
    pub fn uri(&self) -> String {
        if self.access_control { self.uri_for(ROOT_USER, ROOT_PASSWORD) } else { self.uri_with("", "") }
    }

    /// The connection string for another user of the `admin` database. Name and password are not encoded, so they may
    /// have only letters, digits and `-`.
    #[must_use]
    pub fn uri_for(&self, user: &str, password: &str) -> String {
        self.uri_with(&format!("{user}:{password}@"), "&authSource=admin")
    }

    /// The member with this index, from 0 in the order of the connection string.
    ///
    /// # Panics
    /// When there is no such member.
    #[allow(clippy::indexing_slicing, reason = "a test that names a member that it did not ask for is wrong")]
    pub fn member(&mut self, index: usize) -> &mut Member {
        &mut self.members[index]
    }

    /// Waits until there is one primary and all other running members are secondaries.
    ///
    /// # Errors
    /// When that takes longer than 90 s. A healthy set needs far less.
    pub fn wait_until_healthy(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            let mut primary_changes = 0;
            let mut ready = 0;
            let mut running = 0;
            for member in &mut self.members {
                if !member.is_running() {
                    continue;
                }
                running += 1;
                let Ok(hello) = member.ask(doc! { "hello": 1 }) else { continue };
                let is = |field| hello.get_bool(field).unwrap_or(false);
                primary_changes += usize::from(is("isWritablePrimary"));
                ready += usize::from(is("isWritablePrimary") || is("secondary"));
            }
            if primary_changes == 1 && ready == running {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                let last_lines = self.members.first().map(Member::last_lines).unwrap_or_default();
                return Err(Failure::too_slow("the election of a primary", PATIENCE, last_lines));
            }
            std::thread::sleep(POLL);
        }
    }

    fn initiate(&self) -> Result<(), Failure> {
        let hosts = self.members.iter().map(Member::host);
        let members: Vec<Document> = (0_i32..).zip(hosts).map(|(id, host)| doc! { "_id": id, "host": host }).collect();
        // MongoDB's defaults are 2 s and 10 s. Here all members are on one machine, and tests that kill primaries would
        // wait for elections.
        let settings = doc! { "heartbeatIntervalMillis": 500, "electionTimeoutMillis": 3000 };
        let configuration = doc! { "_id": &self.name, "members": members, "settings": settings };
        self.ask_first(doc! { "replSetInitiate": configuration })
    }

    /// Creates the first user. A client of the same machine may do that without a login ("localhost exception").
    fn create_root(&self) -> Result<(), Failure> {
        self.ask_first(doc! { "createUser": ROOT_USER, "pwd": ROOT_PASSWORD, "roles": ["root"] })
    }

    /// Sends a command to the first member. It calls the first election, so it is the primary of a newly initiated set.
    fn ask_first(&self, command: Document) -> Result<(), Failure> {
        self.members.first().map_or(Ok(()), |first| first.ask(command).map(drop))
    }

    fn uri_with(&self, user: &str, options: &str) -> String {
        let hosts: Vec<String> = self.members.iter().map(Member::host).collect();
        format!("mongodb://{user}{}/?replicaSet={}{options}", hosts.join(","), self.name)
    }
}

/// A running server that belongs to no replica set. It has no oplog, and so no change streams.
#[derive(Debug)]
pub struct Standalone {
    member: Member,
    _folder: TemporaryFolder,
}

impl Standalone {
    /// # Errors
    /// As [`ReplicaSet::start`].
    pub fn start() -> Result<Self, Failure> {
        let program = find_binary()?;
        let folder = temporary_folder()?;
        let member = Member::start(&program, None, folder.path().join("data"), cache(SMALL_CACHE))?;
        Ok(Self { member, _folder: folder })
    }

    /// The connection string.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("mongodb://{}/", self.member.host())
    }
}

fn cache(gigabytes: f64) -> Vec<String> {
    vec!["--wiredTigerCacheSizeGB".to_owned(), gigabytes.to_string()]
}

fn temporary_folder() -> Result<TemporaryFolder, Failure> {
    TemporaryFolder::create("stream-processor-mongodb-").map_err(Failure::file("cannot create a temporary folder"))
}

/// Writes the key file by which the members of a set with access control trust each other. `mongod` refuses a key file
/// that others than its owner can read.
fn write_key(folder: &Path) -> Result<String, Failure> {
    let path = folder.join("key");
    let key: String = (0..8).map(|_| format!("{:016x}", rand::random::<u64>())).collect();
    fs::write(&path, key)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o400)))
        .map_err(Failure::file(format!("cannot write {}", path.display())))?;
    Ok(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use mongodb::Client;

    use super::*;

    const HOLD: &str = "XTASK_TEST_HOLD_A_REPLICA_SET";

    #[tokio::test]
    async fn a_member_that_was_killed_comes_back_with_its_data() {
        let mut set = ReplicaSet::start(&Options::default()).unwrap();
        let client = Client::with_uri_str(set.uri()).await.unwrap();
        let things = client.database("kept").collection::<Document>("things");
        things.insert_one(doc! { "_id": 1 }).await.unwrap();

        set.member(0).kill();
        set.member(0).restart().unwrap();
        set.wait_until_healthy().unwrap();

        assert_eq!(things.count_documents(doc! {}).await.unwrap(), 1);
        let folder = set._folder.path().to_owned();
        drop(set);
        assert!(!folder.exists(), "the folder is removed with the set");
    }

    #[tokio::test]
    async fn three_members_elect_another_primary_when_theirs_is_killed() {
        let mut set = ReplicaSet::start(&Options { members: 3, ..Options::default() }).unwrap();
        let primary = (0..3)
            .find(|index| set.member(*index).ask(doc! { "hello": 1 }).unwrap().get_bool("isWritablePrimary").unwrap());
        set.member(primary.unwrap()).kill();
        set.wait_until_healthy().unwrap();
    }

    #[tokio::test]
    async fn access_control_refuses_whoever_does_not_log_in() {
        let set = ReplicaSet::start(&Options { access_control: true, ..Options::default() }).unwrap();
        let insert = async |uri: String| {
            let client = Client::with_uri_str(uri).await.unwrap();
            client.database("kept").collection::<Document>("things").insert_one(doc! { "_id": 1 }).await
        };
        assert!(insert(set.uri_with("", "")).await.is_err());
        assert!(insert(set.uri()).await.is_ok());
    }

    #[tokio::test]
    async fn a_standalone_server_says_that_it_is_no_replica_set() {
        let server = Standalone::start().unwrap();
        assert!(!server.member.ask(doc! { "hello": 1 }).unwrap().contains_key("setName"));
        let client = Client::with_uri_str(server.uri()).await.unwrap();
        assert!(client.list_database_names().await.is_ok());
    }

    /// Runs itself in a second process, which starts a set and is then killed with SIGKILL.
    #[test]
    fn no_mongod_outlives_a_process_that_was_killed() {
        if std::env::var_os(HOLD).is_some() {
            let set = ReplicaSet::start(&Options::default()).unwrap();
            eprintln!("holding {} {}", set.members[0].host(), set._folder.path().display());
            loop {
                std::thread::park();
            }
        }
        let test = "mongod::replica_set::tests::no_mongod_outlives_a_process_that_was_killed";
        let mut holder = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(HOLD, "1")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(holder.stderr.take().unwrap()).lines();
        let line =
            lines.map_while(Result::ok).find_map(|line| Some(line.split_once("holding ")?.1.to_owned())).unwrap();
        let (host, folder) = line.split_once(' ').unwrap();
        assert!(std::net::TcpStream::connect(host).is_ok(), "mongod runs");

        holder.kill().unwrap();
        holder.wait().unwrap();

        let started = Instant::now();
        while std::net::TcpStream::connect(host).is_ok() || Path::new(folder).exists() {
            assert!(started.elapsed() < PATIENCE, "mongod or its folder is still there");
            std::thread::sleep(POLL);
        }
    }
}
