//! Splits a stream into lines of bounded length.

use super::error::WatchError;
use http_body_util::BodyExt;
use kube::client::Body;

/// Buffer capacity in bytes above which memory is released.
const MAX_IDLE_BUFFER: usize = 256 << 10;

/// A body read line by line.
pub(super) struct LineReader {
    body: Body,
    buffer: Vec<u8>,
    /// Bytes of the buffer already returned.
    done: usize,
    /// Bytes of the buffer already searched for a line end.
    searched: usize,
    longest: usize,
    /// The current line is too long; its rest is discarded.
    dropping: bool,
}

/// An item of the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamLine<'a> {
    /// A line, without its terminator.
    Text(&'a [u8]),
    /// A line exceeded the limit and was discarded.
    TooLong,
    /// End of stream. An unterminated last line is discarded: it is incomplete.
    End,
}

impl LineReader {
    /// Reads lines of at most `longest` bytes.
    pub(super) fn new(body: Body, longest: usize) -> Self {
        Self {
            body,
            buffer: Vec::new(),
            done: 0,
            searched: 0,
            longest,
            dropping: false,
        }
    }

    /// Returns the next line. Cancellation-safe.
    pub(super) async fn next(&mut self) -> Result<StreamLine<'_>, WatchError> {
        loop {
            let rest = &self.buffer[self.searched..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let (start, end) = (self.done, self.searched + length);
                (self.done, self.searched) = (end + 1, end + 1);
                if std::mem::take(&mut self.dropping) || end - start > self.longest {
                    return Ok(StreamLine::TooLong);
                }
                return Ok(StreamLine::Text(&self.buffer[start..end]));
            }
            self.searched = self.buffer.len();
            if self.dropping || self.searched - self.done > self.longest {
                self.dropping = true;
                self.done = self.searched;
            }
            self.compact();
            match self.body.frame().await {
                None => return Ok(StreamLine::End),
                Some(Err(error)) => return Err(WatchError::disconnected(&error)),
                Some(Ok(frame)) => self.buffer.extend(frame.data_ref().into_iter().flatten()),
            }
        }
    }

    /// Removes returned bytes, and releases memory after a long line.
    fn compact(&mut self) {
        self.buffer.drain(..self.done);
        (self.done, self.searched) = (0, self.searched - self.done);
        if self.buffer.capacity() > MAX_IDLE_BUFFER && self.buffer.len() < MAX_IDLE_BUFFER / 2 {
            self.buffer.shrink_to(MAX_IDLE_BUFFER / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str, longest: usize) -> Vec<String> {
        let mut lines = LineReader::new(Body::from(text.as_bytes().to_vec()), longest);
        let mut read = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                StreamLine::Text(text) => read.push(String::from_utf8(text.to_vec()).unwrap()),
                StreamLine::TooLong => read.push("(too long)".into()),
                StreamLine::End => return read,
            }
        }
    }

    #[tokio::test]
    async fn lines_are_split_and_oversized_ones_are_discarded() {
        assert_eq!(read("a\n\nbc\nrest", 8).await, ["a", "", "bc"]);
        assert_eq!(
            read("12345678\n123456789\nx\n", 8).await,
            ["12345678", "(too long)", "x"]
        );
    }
}
