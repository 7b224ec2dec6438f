//! A broker that is none: it says to whoever connects what a test wants said, so that a line
//! can break where no real broker breaks it.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

/// No word of an agent takes longer than this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kinds of packets, as their first byte has them.
const PUBACK: u8 = 4;
const SUBSCRIBE: u8 = 8;
const UNSUBSCRIBE: u8 = 10;
const PINGREQ: u8 = 12;
const DISCONNECT: u8 = 14;

/// See the module's description.
pub struct Posing {
    listener: TcpListener,
    /// What nobody may subscribe to.
    pub forbidden: &'static str,
}

/// Whoever has connected.
pub struct Guest(TcpStream);

impl Posing {
    /// On a port of its own.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn new(forbidden: &'static str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        Self { listener, forbidden }
    }

    /// Its URL.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://{}", self.listener.local_addr().expect("it is bound"))
    }

    /// The next that comes to stay and subscribes so many times, and not those that only look
    /// whether there is a broker. `is_kept` says whether it was there before.
    ///
    /// # Panics
    /// When nobody comes.
    #[must_use]
    pub fn guest(&self, is_kept: bool, times: usize) -> Guest {
        loop {
            let (stream, _) = self.listener.accept().expect("somebody comes");
            stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
            let mut guest = Guest(stream);
            let Ok((_, connect)) = guest.packet() else { continue };
            // The flag behind the protocol's name and level.
            let stays = connect[7] & 2 == 0;
            guest.say(&[0x20, 2, u8::from(is_kept && stays), 0]);
            if stays && (0..times).all(|_| guest.subscribes(self.forbidden)) {
                return guest;
            }
        }
    }
}

impl Guest {
    fn say(&mut self, bytes: &[u8]) {
        // It may be gone, which shows when it is listened to.
        let _ = self.0.write_all(bytes);
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.0.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    /// The next packet's kind, and what is in it.
    fn packet(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let kind = self.byte()? >> 4;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok((kind, body))
    }

    /// Answers until it has subscribed; false when it goes.
    #[must_use]
    pub fn subscribes(&mut self, forbidden: &str) -> bool {
        while let Ok((kind, body)) = self.packet() {
            if kind == SUBSCRIBE {
                let code = if &body[4..body.len() - 1] == forbidden.as_bytes() { 0x80 } else { 1 };
                self.say(&[0x90, 3, body[0], body[1], code]);
                return true;
            }
            if kind == DISCONNECT {
                return false;
            }
            self.answer(kind, &body);
        }
        false
    }

    fn answer(&mut self, kind: u8, body: &[u8]) {
        match kind {
            UNSUBSCRIBE => self.say(&[0xb0, 2, body[0], body[1]]),
            PINGREQ => self.say(&[0xd0, 0]),
            _ => {}
        }
    }

    /// Brings it a message at QoS 1.
    ///
    /// # Panics
    /// When it is too long for that.
    pub fn bring(&mut self, id: u16, topic: &str, payload: &str, is_again: bool) {
        let length = u8::try_from(2 + topic.len() + 2 + payload.len()).expect("a short one");
        assert!(length < 0x80, "a short one");
        let topic_length = u16::try_from(topic.len()).expect("it is short");
        let mut packet = vec![0x32 | u8::from(is_again) << 3, length];
        packet.extend(topic_length.to_be_bytes());
        packet.extend(topic.as_bytes());
        packet.extend(id.to_be_bytes());
        packet.extend(payload.as_bytes());
        self.say(&packet);
    }

    /// Waits until it acknowledges a message; which one.
    ///
    /// # Panics
    /// When it does not.
    pub fn acknowledged(&mut self) -> u16 {
        loop {
            let (kind, body) = self.packet().expect("it acknowledges");
            if kind == PUBACK {
                return u16::from_be_bytes([body[0], body[1]]);
            }
            self.answer(kind, &body);
        }
    }
}
