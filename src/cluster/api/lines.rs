//! A stream cut into lines, with a bound on their length.

use super::failure::Failure;
use http_body_util::BodyExt;
use kube::client::Body;

/// The buffer is given back to the system above this size.
const KEPT: usize = 256 << 10;

/// A body read line by line.
pub(super) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Up to here the buffer has been handed out.
    done: usize,
    /// Up to here it has been searched for the end of a line.
    searched: usize,
    longest: usize,
    /// The line being read was too long, and what comes of it is dropped.
    dropping: bool,
}

/// What comes of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A line, without its end.
    Text(&'a [u8]),
    /// A line was longer than is allowed, and has been dropped.
    TooLong,
    /// The stream has ended. What stood after the last end of a line is dropped: it is not whole.
    End,
}

impl Lines {
    /// The lines of this body, none longer than `longest` octets.
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

    /// The next line. May be cancelled and called again: nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Line<'_>, Failure> {
        loop {
            let rest = &self.buffer[self.searched..];
            if let Some(length) = rest.iter().position(|byte| *byte == b'\n') {
                let (start, end) = (self.done, self.searched + length);
                (self.done, self.searched) = (end + 1, end + 1);
                if std::mem::take(&mut self.dropping) || end - start > self.longest {
                    return Ok(Line::TooLong);
                }
                return Ok(Line::Text(&self.buffer[start..end]));
            }
            self.searched = self.buffer.len();
            if self.dropping || self.searched - self.done > self.longest {
                self.dropping = true;
                self.done = self.searched;
            }
            self.compact();
            match self.body.frame().await {
                None => return Ok(Line::End),
                Some(Err(error)) => return Err(Failure::broken(&error)),
                Some(Ok(frame)) => self.buffer.extend(frame.data_ref().into_iter().flatten()),
            }
        }
    }

    /// Drops what has been handed out, and gives back room after a long line.
    fn compact(&mut self) {
        self.buffer.drain(..self.done);
        (self.done, self.searched) = (0, self.searched - self.done);
        if self.buffer.capacity() > KEPT && self.buffer.len() < KEPT / 2 {
            self.buffer.shrink_to(KEPT / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(text: &str, longest: usize) -> Vec<String> {
        let mut lines = Lines::new(Body::from(text.as_bytes().to_vec()), longest);
        let mut read = Vec::new();
        loop {
            match lines.next().await.unwrap() {
                Line::Text(text) => read.push(String::from_utf8(text.to_vec()).unwrap()),
                Line::TooLong => read.push("(too long)".into()),
                Line::End => return read,
            }
        }
    }

    #[tokio::test]
    async fn lines_end_where_they_end() {
        assert_eq!(read("a\n\nbc\nrest", 8).await, ["a", "", "bc"]);
        assert_eq!(
            read("12345678\n123456789\nx\n", 8).await,
            ["12345678", "(too long)", "x"]
        );
    }
}
