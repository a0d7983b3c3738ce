//! systemd's private socket as a transport for zbus.
//!
//! On this socket systemd puts `org.freedesktop.systemd1` into the sender field of what it sends, as if a
//! bus were there that its clients could ask for that name. The D-Bus specification wants a unique name in
//! that field, and zbus refuses messages with any other. So the field is relabelled on the way in: as the
//! destination, which nobody looks at on a connection without a bus. Without a sender, zbus takes a
//! message as one from the peer, which is true.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
    path::Path,
};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use zbus::connection::{
    Builder, Connection,
    socket::{ReadHalf, Split, WriteHalf},
};

/// Connects and authenticates as the user this process runs as.
pub(crate) async fn connect(path: &Path) -> zbus::Result<Connection> {
    let mut stream = UnixStream::connect(path).await?;
    let guid = authenticate(&mut stream).await?;
    let (read, write) = stream.into_split();
    let read: Box<dyn ReadHalf> = Box::new(Reader::new(read));
    let write: Box<dyn WriteHalf> = Box::new(Writer(write));
    Builder::authenticated_socket(Split::new(read, write), guid.as_str())
        .p2p()
        .build()
        .await
}

/// The longest line of the authentication protocol that is taken.
const LONGEST_LINE: usize = 256;

/// EXTERNAL authentication (D-Bus specification, "Authentication Protocol"): the kernel vouches for the uid.
/// All that the client has to say goes out at once: systemd 252 does not wake up again for what comes between
/// its `OK` and the first message, so that a `BEGIN` sent on its own is never answered.
async fn authenticate(stream: &mut UnixStream) -> zbus::Result<String> {
    let uid: String = nix::unistd::geteuid()
        .to_string()
        .bytes()
        .map(|digit| format!("{digit:02x}"))
        .collect();
    stream
        .write_all(format!("\0AUTH EXTERNAL {uid}\r\nBEGIN\r\n").as_bytes())
        .await?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") && line.len() < LONGEST_LINE {
        line.push(stream.read_u8().await?);
    }
    let line = String::from_utf8_lossy(&line);
    let Some(guid) = line.trim_end().strip_prefix("OK ") else {
        return Err(zbus::Error::Handshake(format!(
            "systemd does not know us: {}",
            line.trim_end()
        )));
    };
    Ok(guid.to_owned())
}

/// Hands out whole messages, in pieces as zbus asks for them.
#[derive(Debug)]
struct Reader {
    stream: OwnedReadHalf,
    /// What has been read of the message under way, and once it is whole, what is to be handed out.
    message: Vec<u8>,
    /// How much of a whole message has been handed out.
    given: usize,
}

impl Reader {
    fn new(stream: OwnedReadHalf) -> Self {
        Self {
            stream,
            message: Vec::new(),
            given: 0,
        }
    }

    /// Reads until `length` bytes of the message are there; false at the end of the stream. What was read
    /// stays if the caller stops waiting.
    async fn fill(&mut self, length: usize) -> io::Result<bool> {
        while self.message.len() < length {
            let missing = (length - self.message.len()) as u64;
            if (&mut self.stream)
                .take(missing)
                .read_buf(&mut self.message)
                .await?
                == 0
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn next_message(&mut self) -> io::Result<bool> {
        self.message.clear();
        self.given = 0;
        if !self.fill(FIXED).await? {
            return Ok(false);
        }
        let (header, whole) = lengths(&self.message)?;
        if !self.fill(whole).await? {
            return Ok(false);
        }
        relabel_sender(&mut self.message[..header]);
        Ok(true)
    }
}

#[async_trait]
impl ReadHalf for Reader {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        if self.given == self.message.len() && !self.next_message().await? {
            return Ok((0, Vec::new()));
        }
        let left = &self.message[self.given..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.given += length;
        // systemd sends no descriptors in what nodectl asks for.
        Ok((length, Vec::new()))
    }
}

#[derive(Debug)]
struct Writer(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Writer {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// Length of the part of a message that tells how long the rest is (D-Bus specification, "Message Format").
const FIXED: usize = 16;

/// The longest message that the specification allows.
const LONGEST: usize = 1 << 27;

/// Length of the header with its fields, and of the whole message.
fn lengths(fixed: &[u8]) -> io::Result<(usize, usize)> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not a D-Bus message");
    let number = |at: usize| -> io::Result<usize> {
        let bytes = fixed.get(at..at + 4).and_then(|b| b.try_into().ok());
        let bytes: [u8; 4] = bytes.ok_or_else(malformed)?;
        let number = match fixed.first() {
            Some(b'l') => u32::from_le_bytes(bytes),
            Some(b'B') => u32::from_be_bytes(bytes),
            _ => return Err(malformed()),
        };
        usize::try_from(number).map_err(|_| malformed())
    };
    let header = FIXED + number(12)?;
    let whole = header.next_multiple_of(8) + number(4)?;
    if whole > LONGEST {
        return Err(malformed());
    }
    Ok((header, whole))
}

/// Turns the sender field into a destination field. Each field is at a multiple of 8 and begins with its
/// code and the signature of its value; no name and no path in a header can contain these bytes.
fn relabel_sender(header: &mut [u8]) {
    const SENDER: [u8; 4] = [7, 1, b's', 0];
    const DESTINATION: u8 = 6;
    let fields = header.get_mut(FIXED..).unwrap_or_default();
    for field in fields.chunks_exact_mut(8) {
        if field.starts_with(&SENDER) {
            field[0] = DESTINATION;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sender: &str) -> zbus::Message {
        zbus::Message::signal("/a", "a.b", "C")
            .sender(sender)
            .build(&("text", 7_u32))
            .expect("a message")
    }

    #[test]
    fn lengths_are_those_of_the_message() {
        let message = message(":1.1");
        let bytes = message.data().bytes();
        let (header, whole) = lengths(bytes).expect("a message");
        assert_eq!(whole, bytes.len());
        assert!(header < whole);
    }

    #[test]
    fn only_the_label_of_the_sender_changes() {
        let original = message(":1.1");
        let mut bytes = original.data().bytes().to_vec();
        let (header, _) = lengths(&bytes).expect("a message");
        relabel_sender(&mut bytes[..header]);
        let changed: Vec<_> = (0..bytes.len())
            .filter(|at| bytes[*at] != original.data().bytes()[*at])
            .collect();
        assert_eq!(changed.len(), 1);
        assert_eq!((original.data().bytes()[changed[0]], bytes[changed[0]]), (7, 6));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bytes in [
            &b""[..],
            b"l",
            b"HTTP/1.1 200 OK\r\n",
            &[b'l', 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(lengths(bytes).is_err(), "{bytes:?}");
        }
    }
}
