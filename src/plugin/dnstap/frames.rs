//! Frame Streams, the framing of dnstap: every frame is prefixed with its length, control frames with
//! a length of 0. The handshake is the bidirectional one: READY from the sender, ACCEPT from the
//! receiver, START from the sender.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The content type of dnstap.
const CONTENT: &[u8] = b"protobuf:dnstap.Dnstap";

const ACCEPT: u32 = 1;
const START: u32 = 2;
const STOP: u32 = 3;
const READY: u32 = 4;
const FINISH: u32 = 5;

/// The only field of control frames.
const CONTENT_TYPE: u32 = 1;

/// Bytes of a received control frame at most.
const MAX_CONTROL: u32 = 4096;

/// The opening handshake: READY, ACCEPT, START.
pub(super) async fn open<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&control(READY, true)).await?;
    stream.flush().await?;
    let answer = read_control(stream).await?;
    if !accepts(&answer) {
        let message = "the other side does not take frames of dnstap";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    stream.write_all(&control(START, true)).await?;
    stream.flush().await
}

/// The closing handshake: STOP, and FINISH once the receiver has all frames.
pub(super) async fn close<S>(stream: &mut S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&control(STOP, false)).await?;
    stream.flush().await?;
    loop {
        let frame = read_control(stream).await?;
        if frame.starts_with(&FINISH.to_be_bytes()) {
            return stream.shutdown().await;
        }
    }
}

/// Appends a data frame to `out`.
pub(super) fn put(out: &mut Vec<u8>, data: &[u8]) {
    let length = u32::try_from(data.len()).expect("messages are far below 4 GiB");
    out.extend(length.to_be_bytes());
    out.extend(data);
}

fn control(kind: u32, with_content: bool) -> Vec<u8> {
    let mut body = kind.to_be_bytes().to_vec();
    if with_content {
        body.extend(CONTENT_TYPE.to_be_bytes());
        put(&mut body, CONTENT);
    }
    let mut frame = vec![0; 4];
    put(&mut frame, &body);
    frame
}

async fn read_control<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let bad = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    if stream.read_u32().await? != 0 {
        return Err(bad("data where a control frame is expected"));
    }
    let length = stream.read_u32().await?;
    if length > MAX_CONTROL {
        return Err(bad("a control frame that is too long"));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

/// Whether a control frame is an ACCEPT for dnstap, or for any content type.
fn accepts(body: &[u8]) -> bool {
    let Some(mut fields) = body.strip_prefix(&ACCEPT.to_be_bytes()) else {
        return false;
    };
    let mut any = true;
    while let Some((head, rest)) = fields.split_first_chunk::<8>() {
        let [kind, length] = [&head[..4], &head[4..]].map(|word| {
            let word: [u8; 4] = word.try_into().expect("four of eight bytes");
            u32::from_be_bytes(word)
        });
        let Some((value, rest)) = rest.split_at_checked(length as usize) else {
            return false;
        };
        if kind == CONTENT_TYPE {
            if value == CONTENT {
                return true;
            }
            any = false;
        }
        fields = rest;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_content_or_any_is_accepted() {
        let body = |kind, with| control(kind, with)[8..].to_vec();
        assert!(accepts(&body(ACCEPT, true)));
        assert!(accepts(&body(ACCEPT, false)));
        assert!(!accepts(&body(READY, true)));
        let mut other = body(ACCEPT, true);
        *other.last_mut().unwrap() = b'!';
        assert!(!accepts(&other));
        for end in 0..other.len() {
            accepts(&other[..end]);
        }
        other[8] = 0xFF;
        assert!(!accepts(&other), "a length beyond the end");
    }
}
