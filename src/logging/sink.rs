//! A bounded buffer of log lines and the thread that writes it.

use std::{
    cell::RefCell,
    fmt,
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tracing::Level;

use super::record::{self, LogRecord};
use crate::error_text;

/// Bound on the bytes of waiting lines, with those that are being written: several thousand query log lines.
pub const CAPACITY: usize = 1024 * 1024;

/// How long the writer collects lines before a write: waking it for each line would cost more than
/// the line.
const BATCH_DELAY: Duration = Duration::from_millis(2);

/// Destination of log lines. Clones share one buffer and one writer thread, which ends with the
/// last clone.
#[derive(Clone)]
pub struct Sink {
    buffer: Arc<WriterHandle>,
    pub(super) style: Style,
}

/// Format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `[LEVEL] message`, the level in colour on a terminal.
    Text { colour: bool },
    /// A [`LogRecord`].
    Json,
}

/// Ends the writer thread when dropped.
struct WriterHandle(Arc<Buffer>);

struct Buffer {
    state: Mutex<State>,
    /// Wakes the writer.
    wake: Condvar,
    /// Signals that everything is written.
    drained: Condvar,
    capacity: usize,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    pending: Vec<u8>,
    /// Bytes that the writer has taken and not written yet.
    taken: usize,
    /// Lines dropped since the last report.
    dropped: u64,
    writer: Activity,
    /// A flush is in progress: write without delay.
    flushing: bool,
    closed: bool,
}

/// State of the writer thread.
#[derive(Default, PartialEq, Eq)]
enum Activity {
    /// Collects lines and writes without being woken.
    #[default]
    Batching,
    /// Sleeps until woken.
    Idle,
    Writing,
}

impl Sink {
    /// A sink that writes to `output` on its own thread and buffers at most `capacity` bytes.
    pub(super) fn new(output: impl Write + Send + 'static, capacity: usize, style: Style) -> Self {
        let buffer = Arc::new(Buffer {
            state: Mutex::default(),
            wake: Condvar::new(),
            drained: Condvar::new(),
            capacity,
            dropped: AtomicU64::new(0),
        });
        let writer = Arc::clone(&buffer);
        let spawned = thread::Builder::new()
            .name("log".into())
            .spawn(move || writer.write_to(output, style));
        if spawned.is_err() {
            // Without the thread the server runs without a log: all lines count as dropped.
            buffer.state.lock().closed = true;
        }
        Self {
            buffer: Arc::new(WriterHandle(buffer)),
            style,
        }
    }

    /// Adds a complete line, including its prefix, without the newline.
    pub fn push(&self, line: &[u8]) {
        self.buffer.0.push(line);
    }

    /// Adds a line of `plugin`.
    pub fn line(&self, level: Level, plugin: &str, text: fmt::Arguments<'_>) {
        if level > Level::INFO && !super::DEBUG.load(Relaxed) {
            return;
        }
        with_buffers(|line, message| {
            // Writing to a vector cannot fail.
            let _ = match self.style {
                Style::Text { colour } => {
                    let level = LevelLabel(level, colour);
                    write!(line, "{level} plugin/{plugin}: {text}")
                }
                Style::Json => write!(message, "{text}"),
            };
            if self.style == Style::Json {
                LogRecord::begin(line, record::level(level), message, Some(plugin)).end();
            }
            self.push(line);
        });
    }

    /// Adds a query log line: `message` writes its text, `fields` adds the additional keys of a
    /// record. Only records name the plugin, `log`.
    pub fn query(
        &self,
        message: impl FnOnce(&mut Vec<u8>),
        fields: impl FnOnce(&mut LogRecord<'_>),
    ) {
        with_buffers(|line, text| {
            match self.style {
                Style::Text { .. } => {
                    line.extend_from_slice(b"[INFO] ");
                    message(line);
                }
                Style::Json => {
                    message(text);
                    let level = record::level(Level::INFO);
                    let mut record = LogRecord::begin(line, level, text, Some("log"));
                    fields(&mut record);
                    record.end();
                }
            }
            self.push(line);
        });
    }

    /// Waits until all lines are written, at most `limit`.
    pub fn flush(&self, limit: Duration) {
        let buffer = &self.buffer.0;
        let until = Instant::now() + limit;
        let mut state = buffer.state.lock();
        while !state.closed
            && (state.writer == Activity::Writing || !state.pending.is_empty() || state.dropped > 0)
        {
            state.flushing = true;
            buffer.wake.notify_one();
            if buffer.drained.wait_until(&mut state, until).timed_out() {
                return;
            }
        }
    }

    /// Number of dropped lines.
    pub fn dropped(&self) -> u64 {
        self.buffer.0.dropped.load(Relaxed)
    }
}

/// Passes this thread's buffers for a line and a message, both empty.
fn with_buffers(write: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
    thread_local! {
        static BUFFERS: RefCell<[Vec<u8>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
    }
    BUFFERS.with(|buffers| match buffers.try_borrow_mut() {
        Ok(mut buffers) => {
            let [line, message] = &mut *buffers;
            line.clear();
            message.clear();
            write(line, message);
        }
        // Logging within logging is rare: uses temporary buffers.
        Err(_) => write(&mut Vec::new(), &mut Vec::new()),
    });
}

impl Drop for WriterHandle {
    fn drop(&mut self) {
        self.0.state.lock().closed = true;
        self.0.wake.notify_one();
    }
}

impl Buffer {
    fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        let waiting = state.pending.len() + state.taken;
        if state.closed || waiting + line.len() >= self.capacity {
            state.dropped += 1;
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        state.pending.extend_from_slice(line);
        state.pending.push(b'\n');
        if state.writer == Activity::Idle {
            state.writer = Activity::Batching;
            drop(state);
            self.wake.notify_one();
        }
    }

    /// The writer thread. Lines that the output does not take, on a full disk for example, count as dropped.
    fn write_to(&self, mut output: impl Write, style: Style) {
        let mut taken = Vec::new();
        let mut unreported = Dropped::default();
        let mut ends_within_line = false;
        loop {
            let mut state = self.state.lock();
            state.taken = 0;
            state.writer = Activity::Batching;
            if state.pending.is_empty() && state.dropped == 0 {
                state.flushing = false;
                self.drained.notify_all();
                if state.closed {
                    return;
                }
                state.writer = Activity::Idle;
                self.wake.wait(&mut state);
                state.writer = Activity::Batching;
            }
            if !state.flushing && !state.closed {
                self.wake.wait_for(&mut state, BATCH_DELAY);
            }
            std::mem::swap(&mut taken, &mut state.pending);
            state.taken = taken.len();
            unreported.lines += std::mem::take(&mut state.dropped);
            state.writer = Activity::Writing;
            drop(state);
            if ends_within_line {
                taken.insert(0, b'\n');
            }
            let lines = taken.len();
            if unreported.lines > 0 {
                unreported.report(&mut taken, style);
            }
            let (written, result) = write(&mut output, &taken);
            match result {
                Ok(()) => {
                    unreported = Dropped::default();
                    ends_within_line = false;
                }
                Err(error) => {
                    let rest = taken.get(written..lines).unwrap_or_default();
                    // The first is the end of a line that was counted when it was cut.
                    let counted = usize::from(ends_within_line && written == 0);
                    let ends = rest.split(|byte| *byte == b'\n').count() - 1;
                    let lost = ends.saturating_sub(counted) as u64;
                    self.dropped.fetch_add(lost, Relaxed);
                    unreported.lines += lost;
                    unreported.error = Some(error);
                    if let Some(last) = written.checked_sub(1) {
                        ends_within_line = taken[last] != b'\n';
                    }
                }
            }
            let _ = output.flush();
            taken.clear();
            taken.shrink_to(CAPACITY / 16);
        }
    }
}

/// Lines dropped since the last report, and the last error of the output.
#[derive(Default)]
struct Dropped {
    lines: u64,
    error: Option<io::Error>,
}

impl Dropped {
    /// Adds a line with the number.
    fn report(&self, out: &mut Vec<u8>, style: Style) {
        let lines = self.lines;
        let cause = match &self.error {
            None => "the output is too slow".to_owned(),
            Some(error) => format!("the output failed: {}", error_text::io(error)),
        };
        let text = format!("{lines} log lines were dropped: {cause}");
        match style {
            Style::Text { .. } => {
                let label = LevelLabel(Level::WARN, false);
                let _ = write!(out, "{label} {text}");
            }
            Style::Json => {
                let level = record::level(Level::WARN);
                LogRecord::begin(out, level, text.as_bytes(), None).end();
            }
        }
        out.push(b'\n');
    }
}

/// Like [`Write::write_all`]; also returns the number of bytes that were written.
fn write(output: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match output.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// A level in CoreDNS's spelling, coloured on terminals.
pub(super) struct LevelLabel(pub(super) Level, pub(super) bool);

impl fmt::Display for LevelLabel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, colour) = match self.0 {
            Level::ERROR => ("ERROR", 31),
            Level::WARN => ("WARNING", 33),
            Level::INFO => ("INFO", 0),
            _ => ("DEBUG", 2),
        };
        if self.1 && colour > 0 {
            write!(out, "\x1b[{colour}m[{word}]\x1b[0m")
        } else {
            write!(out, "[{word}]")
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const PLAIN: Style = Style::Text { colour: false };

    /// An output that tests can read.
    #[derive(Clone, Default)]
    pub(crate) struct Output(Arc<Mutex<Vec<u8>>>);

    impl Output {
        /// A sink in text format.
        pub(crate) fn sink(&self) -> Sink {
            Sink::new(self.clone(), CAPACITY, PLAIN)
        }

        /// A sink in JSON format.
        pub(crate) fn records(&self) -> Sink {
            Sink::new(self.clone(), CAPACITY, Style::Json)
        }

        /// Everything written to `sink`.
        pub(crate) fn read(&self, sink: &Sink) -> String {
            sink.flush(LONG);
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// An output that blocks until released.
    struct BlockedOutput {
        output: Output,
        entered: mpsc::Sender<()>,
        release: mpsc::Receiver<()>,
    }

    impl Write for BlockedOutput {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.entered.send(());
            let _ = self.release.recv();
            self.output.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_are_dropped_when_the_output_blocks() {
        let output = Output::default();
        let (entered, is_blocked) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let blocked = BlockedOutput {
            output: output.clone(),
            entered,
            release: released,
        };
        // Six bytes are being written.
        let sink = Sink::new(blocked, 106, PLAIN);
        sink.push(b"first");
        is_blocked.recv().unwrap();
        // The writer is blocked in a write: ten lines of ten bytes fill the buffer.
        for _ in 0..25 {
            sink.push(b"123456789");
        }
        assert_eq!(sink.dropped(), 15);
        drop(release);
        let text = output.read(&sink);
        assert!(text.starts_with("first\n123456789\n"), "{text}");
        assert_eq!(text.matches("123456789\n").count(), 10, "{text}");
        let notice = "[WARNING] 15 log lines were dropped: the output is too slow\n";
        assert!(text.ends_with(notice), "{text}");
        sink.push(b"on again");
        assert!(output.read(&sink).ends_with("on again\n"));
    }

    /// An output on a disk with this many bytes left, on which room is made later.
    struct FullDisk {
        output: Output,
        room: Arc<Mutex<usize>>,
    }

    impl Write for FullDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut room = self.room.lock();
            let count = bytes.len().min(*room);
            *room -= count;
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.output.write(&bytes[..count])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_do_not_fit_on_a_disk_are_counted() {
        let (output, room) = (Output::default(), Arc::new(Mutex::new(25)));
        let disk = FullDisk {
            output: output.clone(),
            room: Arc::clone(&room),
        };
        let sink = Sink::new(disk, CAPACITY, PLAIN);
        // Two and a half.
        for _ in 0..10 {
            sink.push(b"123456789");
        }
        sink.flush(LONG);
        assert_eq!(sink.dropped(), 8);
        sink.push(b"lost too");
        assert_eq!(output.read(&sink), "123456789\n123456789\n12345");
        assert_eq!(sink.dropped(), 9);
        *room.lock() = usize::MAX;
        sink.push(b"there is room");
        let text = output.read(&sink);
        let expected = "123456789\n123456789\n12345\nthere is room\n\
                        [WARNING] 9 log lines were dropped: the output failed: ";
        assert!(text.starts_with(expected), "{text}");
        sink.push(b"once");
        assert!(output.read(&sink).ends_with("once\n"));
        assert_eq!(sink.dropped(), 9);
    }

    #[test]
    fn lines_of_concurrent_threads_are_not_interleaved() {
        let output = Output::default();
        let sink = output.sink();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let sink = sink.clone();
                thread::spawn(move || (0..1000).for_each(|_| sink.push(b"one whole line")))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let text = output.read(&sink);
        assert_eq!(text.lines().count(), 4000);
        assert!(text.lines().all(|line| line == "one whole line"));
    }
}
