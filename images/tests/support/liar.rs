//! A registry that answers what the test tells it to: an HTTP server of one thread per connection,
//! one request per connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use openssl::ssl::SslAcceptor;

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// First byte of a `Range` header.
    pub fn offset(&self) -> usize {
        let value = self
            .header("range")
            .and_then(|value| value.strip_prefix("bytes="));
        value
            .and_then(|value| value.trim_end_matches('-').parse().ok())
            .unwrap_or(0)
    }
}

/// What is answered.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// The length claimed, if another than the body's.
    pub length: Option<usize>,
    /// No length at all.
    pub unmeasured: bool,
    /// No length at all, and bytes without end.
    pub endless: bool,
    /// The connection ends with a reset instead of an end.
    pub reset: bool,
    /// One byte at a time, with this pause after each; headers as well.
    pub drip: Option<Duration>,
    /// The headers come at once all the same.
    pub prompt_head: bool,
    /// The connection ends after so many bytes, headers included.
    pub ends_after: Option<usize>,
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Answer {
            status,
            ..Answer::default()
        }
    }

    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Answer {
            status: 200,
            body: body.into(),
            ..Answer::default()
        }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The rest of `body` from what was asked for, as a good server sends it.
    pub fn range(asked: &Asked, body: &[u8]) -> Self {
        let offset = asked.offset();
        if offset == 0 {
            return Answer::ok(body);
        }
        let range = format!("bytes {offset}-{}/{}", body.len() - 1, body.len());
        Answer {
            status: 206,
            ..Answer::ok(&body[offset..])
        }
        .header("Content-Range", range)
    }

    /// Claims the whole body and sends `count` bytes of it.
    pub fn cut(mut self, count: usize) -> Self {
        self.length = Some(self.body.len());
        self.body.truncate(count);
        self
    }
}

type Behaviour = dyn Fn(&Asked) -> Answer + Send + Sync;

/// The server; ends with the value.
pub struct Liar {
    pub host: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    pub fn start(behaviour: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Liar::listen(behaviour, None)
    }

    /// A proxy: takes any `CONNECT` and is the server behind it, with this certificate.
    pub fn behind_tls(
        acceptor: SslAcceptor,
        behaviour: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Liar::listen(behaviour, Some(acceptor))
    }

    fn listen(
        behaviour: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
        tls: Option<SslAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let host = listener.local_addr().expect("its address").to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let behaviour: Arc<Behaviour> = Arc::new(behaviour);
        let (log, stopping) = (Arc::clone(&asked), Arc::clone(&stop));
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let (log, behaviour, tls) = (Arc::clone(&log), Arc::clone(&behaviour), tls.clone());
                let sent = Arc::clone(&counted);
                std::thread::spawn(move || {
                    let talk = Talk {
                        log: &log,
                        sent: &sent,
                        behaviour: behaviour.as_ref(),
                    };
                    // A client that goes away is part of many tests.
                    let _ = talk.connection(stream, tls.as_ref());
                });
            }
        });
        Liar {
            host,
            asked,
            sent,
            stop,
            thread: Some(thread),
        }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    /// Bytes of bodies that clients or the sockets to them have taken so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// How often a path with this ending was asked for.
    pub fn count(&self, ending: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.path.ends_with(ending))
            .count()
    }
}

/// One connection.
struct Talk<'a> {
    log: &'a Mutex<Vec<Asked>>,
    sent: &'a AtomicUsize,
    behaviour: &'a Behaviour,
}

impl Talk<'_> {
    fn connection(&self, stream: TcpStream, tls: Option<&SslAcceptor>) -> std::io::Result<()> {
        let socket = stream.try_clone()?;
        let answer = match tls {
            None => self.serve(stream)?,
            Some(acceptor) => {
                let mut stream = stream;
                let asked = asked(&mut stream)?;
                self.log.lock().expect("unpoisoned").push(asked);
                stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
                let inner = acceptor.accept(stream).map_err(std::io::Error::other)?;
                self.serve(inner)?
            }
        };
        if answer.reset {
            let now = nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&socket, sockopt::Linger, &now)?;
            return Ok(());
        }
        socket.shutdown(Shutdown::Write)
    }

    fn serve<S: Read + Write>(&self, mut stream: S) -> std::io::Result<Answer> {
        let asked = asked(&mut stream)?;
        self.log.lock().expect("unpoisoned").push(asked.clone());
        let answer = (self.behaviour)(&asked);
        let mut head = format!("HTTP/1.1 {} Test\r\nConnection: close\r\n", answer.status);
        for (name, value) in &answer.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !answer.endless && !answer.unmeasured {
            head += &format!(
                "Content-Length: {}\r\n",
                answer.length.unwrap_or(answer.body.len())
            );
        }
        head += "\r\n";
        let body: &[u8] = if asked.method == "HEAD" { b"" } else { &answer.body };
        if let Some(end) = answer.ends_after {
            let whole = [head.as_bytes(), body].concat();
            stream.write_all(&whole[..end.min(whole.len())])?;
            stream.flush()?;
            return Ok(answer);
        }
        let Some(pause) = answer.drip else {
            stream.write_all(head.as_bytes())?;
            for piece in body.chunks(64 << 10) {
                stream.write_all(piece)?;
                self.sent.fetch_add(piece.len(), Ordering::SeqCst);
            }
            if answer.endless && asked.method != "HEAD" {
                // Until the client has had enough and closes.
                loop {
                    stream.write_all(&[b' '; 4096])?;
                }
            }
            stream.flush()?;
            return Ok(answer);
        };
        let (at_once, slowly) = if answer.prompt_head {
            (&*head, "")
        } else {
            ("", &*head)
        };
        stream.write_all(at_once.as_bytes())?;
        for byte in slowly.bytes().chain(body.iter().copied()) {
            stream.write_all(&[byte])?;
            stream.flush()?;
            std::thread::sleep(pause);
        }
        Ok(answer)
    }
}

/// Reads the head of a request.
fn asked(stream: impl Read) -> std::io::Result<Asked> {
    // Byte by byte: what follows belongs to somebody else.
    let mut lines = BufReader::with_capacity(1, stream).lines();
    let first = lines.next().transpose()?.unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    for line in lines {
        let line = line?;
        match line.split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => break,
        }
    }
    Ok(Asked {
        method,
        path,
        headers,
    })
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accept; if that fails, the thread has ended already.
        let _ = TcpStream::connect(&self.host);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
