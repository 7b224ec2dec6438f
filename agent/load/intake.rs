//! What a caller hands over, as it comes: unpacked where it is gzip, and told apart by
//! how it begins.

use std::io::{self, BufRead, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc::Receiver;

use crate::call::Piece;

/// How gzip begins.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Bytes by which kinds are told apart.
const START_BYTES: usize = 16;

/// Pieces as one stream, which ends only where the caller has said so.
pub(super) struct Intake {
    pieces: Receiver<Piece>,
    piece: Cursor<Vec<u8>>,
    is_whole: bool,
}

impl Read for Intake {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || self.is_whole || buffer.is_empty() {
                return Ok(count);
            }
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.piece = Cursor::new(bytes),
                Some(Piece::End) => self.is_whole = true,
                Some(Piece::Failed(reason)) => return Err(io::Error::other(reason)),
                None => return Err(io::Error::other("the caller went away")),
            }
        }
    }
}

/// What was handed over, by its beginning.
pub(super) struct Content {
    pub(super) start: Vec<u8>,
    rest: Box<dyn BufRead>,
}

impl Content {
    /// Waits for the beginning.
    pub(super) fn of(pieces: Receiver<Piece>) -> io::Result<Self> {
        let intake = Intake { pieces, piece: Cursor::default(), is_whole: false };
        let plain = Self::begin(Box::new(BufReader::new(intake)))?;
        if !plain.start.starts_with(&GZIP) {
            return Ok(plain);
        }
        Self::begin(Box::new(BufReader::new(MultiGzDecoder::new(plain.all()))))
    }

    fn begin(mut rest: Box<dyn BufRead>) -> io::Result<Self> {
        let mut start = Vec::new();
        (&mut rest).take(START_BYTES as u64).read_to_end(&mut start)?;
        Ok(Self { start, rest })
    }

    /// From its beginning on.
    pub(super) fn all(self) -> impl BufRead {
        Cursor::new(self.start).chain(self.rest)
    }
}
