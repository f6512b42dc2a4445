//! A mail server that does what a test tells it to, over real TCP: takes messages, or says no, says nothing, or ends the
//! connection, at the step and for the address that the test chooses.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Where in the dialogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The server's first word.
    Greeting,
    /// `EHLO`
    Hello,
    /// `AUTH`
    Login,
    /// `MAIL FROM`.
    Sender,
    /// `RCPT TO`.
    Recipient,
    /// `DATA`.
    Data,
    /// The content has begun to come.
    Middle,
    /// The content is there, and not answered.
    Content,
}

/// What the server does instead of going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Says this.
    Say(&'static str),
    /// Says nothing any more.
    Stall,
    /// Ends the connection.
    Cut,
    /// Takes the message, then says nothing any more.
    TakeAndStall,
}

/// A message that was taken.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub to: String,
    pub message: String,
}

impl Received {
    /// The value of a header, unfolded.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let head = self.message.split("\r\n\r\n").next()?.replace("\r\n ", " ");
        let prefix = format!("{name}: ");
        head.lines().find_map(|line| Some(line.strip_prefix(&prefix)?.to_owned()))
    }
}

type Script = dyn Fn(Step, &str) -> Option<Fault> + Send + Sync;

/// The server; it ends with the test.
pub(crate) struct MailServer {
    port: u16,
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
}

impl MailServer {
    /// One that follows a script: asked at each step, with the address where it is known.
    pub(crate) async fn start(script: impl Fn(Step, &str) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self::offering("250 test", script).await
    }

    /// One that answers `EHLO` with these words.
    pub(crate) async fn offering(
        hello: &'static str,
        script: impl Fn(Step, &str) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, received: Arc::default(), connections: Arc::default() };
        let (received, connections) = (Arc::clone(&server.received), Arc::clone(&server.connections));
        let script: Arc<Script> = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (received, script) = (Arc::clone(&received), Arc::clone(&script));
                tokio::spawn(async move {
                    // The program may be killed in the middle of a dialogue.
                    let _: std::io::Result<()> = Dialogue::begin(stream, received, script, hello).run().await;
                });
            }
        });
        server
    }

    /// `smtp.url`
    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

struct Dialogue {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    received: Arc<Mutex<Vec<Received>>>,
    script: Arc<Script>,
    hello: &'static str,
    to: String,
}

impl Dialogue {
    fn begin(stream: TcpStream, received: Arc<Mutex<Vec<Received>>>, script: Arc<Script>, hello: &'static str) -> Self {
        let (read, write) = stream.into_split();
        Self { read: BufReader::new(read), write, received, script, hello, to: String::new() }
    }

    async fn run(mut self) -> std::io::Result<()> {
        if !self.answer(Step::Greeting, "220 test").await? {
            return Ok(());
        }
        while let Some(line) = self.line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_uppercase();
            let goes_on = match verb.as_str() {
                "EHLO" => self.answer(Step::Hello, self.hello).await?,
                "AUTH" => self.answer(Step::Login, "235 ok").await?,
                "NOOP" => self.say("250 test").await?,
                "MAIL" => {
                    self.to.clear();
                    self.answer(Step::Sender, "250 ok").await?
                }
                "RCPT" => {
                    let path = line.split_once('<').and_then(|(_, path)| path.rsplit_once('>'));
                    self.to = path.map(|(address, _)| address.to_owned()).unwrap_or_default();
                    self.answer(Step::Recipient, "250 ok").await?
                }
                "DATA" => self.answer(Step::Data, "354 go on").await? && self.content().await?,
                "QUIT" => {
                    self.say("221 bye").await?;
                    return Ok(());
                }
                _ => self.say("502 what?").await?,
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Goes on with these words unless the script says otherwise; false when the dialogue has ended.
    async fn answer(&mut self, step: Step, words: &str) -> std::io::Result<bool> {
        match (self.script)(step, &self.to) {
            None => self.say(words).await,
            Some(Fault::Say(words)) => {
                self.say(words).await?;
                // RFC 5321, section 3.8: after 421 the server ends the connection.
                Ok(!words.starts_with("421"))
            }
            Some(Fault::Cut) => Ok(false),
            Some(Fault::Stall | Fault::TakeAndStall) => {
                while self.line().await?.is_some() {}
                Ok(false)
            }
        }
    }

    async fn content(&mut self) -> std::io::Result<bool> {
        let mut message = String::new();
        loop {
            let Some(line) = self.line().await? else { return Ok(false) };
            if line == "." {
                break;
            }
            if message.is_empty() && (self.script)(Step::Middle, &self.to) == Some(Fault::Cut) {
                return Ok(false);
            }
            message.push_str(line.strip_prefix('.').unwrap_or(&line));
            message.push_str("\r\n");
        }
        let fault = (self.script)(Step::Content, &self.to);
        let is_taken = matches!(fault, None | Some(Fault::TakeAndStall));
        if is_taken {
            self.received.lock().unwrap().push(Received { to: self.to.clone(), message });
        }
        match fault {
            None => self.say("250 taken").await,
            Some(Fault::Say(words)) => self.say(words).await,
            Some(Fault::Cut) => Ok(false),
            Some(Fault::Stall | Fault::TakeAndStall) => {
                while self.line().await?.is_some() {}
                Ok(false)
            }
        }
    }

    async fn say(&mut self, words: &str) -> std::io::Result<bool> {
        self.write.write_all(format!("{words}\r\n").as_bytes()).await?;
        Ok(true)
    }

    async fn line(&mut self) -> std::io::Result<Option<String>> {
        let mut line = String::new();
        let length = self.read.read_line(&mut line).await?;
        Ok((length > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}
