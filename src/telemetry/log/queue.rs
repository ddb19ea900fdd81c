//! The queue between the threads that log and the thread that writes.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::counts::DROPPED;
use crate::clock::Stopwatch;

/// Lines that may wait to be written.
const MAX_LINES: usize = 8192;
/// Bytes of all lines that wait to be written.
const MAX_BYTES: usize = 4 << 20;
/// Longest line, in bytes. A longer line is cut.
const MAX_LINE_BYTES: usize = 32 << 10;
/// Shortest time between two lines of the log about itself.
const OWN_LINES_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before another write to a stderr that cannot be waited for (`O_NONBLOCK`).
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// At the end, the longest time in which nothing can be written.
const STUCK_TIMEOUT: Duration = Duration::from_millis(500);
/// At the end, the longest time for writing all queued lines.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The sending end of the queue. Clones share the queue.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    sender: Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes of the lines in the queue.
    bytes: AtomicUsize,
    /// Lines dropped since the log last reported them.
    dropped: AtomicU64,
    /// Count of writes, to tell a slow reader from a stuck one.
    written: AtomicU64,
    closing: AtomicBool,
}

impl Shared {
    fn drop_line(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

impl Lines {
    /// Queues a line, or drops and counts it. Never blocks.
    pub(super) fn push(&self, mut line: Vec<u8>) {
        if line.len() > MAX_LINE_BYTES {
            line.truncate(MAX_LINE_BYTES);
            line.extend_from_slice(b" (cut)\n");
        }
        let length = line.len();
        let waiting = self.shared.bytes.fetch_add(length, Ordering::Relaxed);
        if waiting + length > MAX_BYTES || self.sender.try_send(line).is_err() {
            self.shared.bytes.fetch_sub(length, Ordering::Relaxed);
            self.shared.drop_line();
        }
    }
}

/// The layer of the log writes one complete line at a time.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes. Dropping it ends the thread, unless the output is stuck. Then
/// the thread goes on until the end of the process.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Lines,
    ended: Receiver<()>,
}

impl Writer {
    /// Starts the thread `dats-log`. It calls `log_own` several times a second while the
    /// output is not stuck, with the number of lines dropped since the last call and with
    /// whether the log is closing. Lines that `log_own` logs are written as well.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        log_own: impl Fn(u64, bool) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded(MAX_LINES);
        let (end, ended) = bounded(1);
        let lines = Lines { sender, shared: Arc::default() };
        let shared = Arc::clone(&lines.shared);
        std::thread::Builder::new().name("dats-log".to_owned()).spawn(move || {
            run(&receiver, &shared, output, log_own);
            let _ = end.send(());
        })?;
        Ok(Self { lines, ended })
    }

    /// Returns the sending end of the queue.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let shared = &self.lines.shared;
        shared.closing.store(true, Ordering::Release);
        // Wakes the thread if it waits for a line.
        let _ = self.lines.sender.try_send(Vec::new());
        let watch = Stopwatch::start();
        while watch.elapsed() < CLOSE_TIMEOUT {
            let before = shared.written.load(Ordering::Relaxed);
            let is_waiting = matches!(self.ended.recv_timeout(STUCK_TIMEOUT), Err(RecvTimeoutError::Timeout));
            if !is_waiting || shared.written.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

fn run(lines: &Receiver<Vec<u8>>, shared: &Shared, mut output: impl Write, log_own: impl Fn(u64, bool)) {
    let mut since_own = Stopwatch::start();
    loop {
        let received = lines.recv_timeout(OWN_LINES_INTERVAL);
        if let Ok(line) = &received {
            shared.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            write(&mut output, line, shared);
        }
        let closing = shared.closing.load(Ordering::Acquire);
        // A summary comes after all lines that were queued before the dropped ones.
        if lines.is_empty() && (closing || since_own.elapsed() >= OWN_LINES_INTERVAL) {
            log_own(shared.dropped.swap(0, Ordering::Relaxed), closing);
            since_own = Stopwatch::start();
        }
        if matches!(received, Err(RecvTimeoutError::Disconnected)) || closing && lines.is_empty() {
            return;
        }
    }
}

/// Writes a line, however slowly it is read. A closed output drops the line.
fn write(output: &mut impl Write, mut rest: &[u8], shared: &Shared) {
    while !rest.is_empty() {
        match output.write(rest) {
            Ok(0) => return shared.drop_line(),
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                shared.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(RETRY_PAUSE),
            Err(_) => return shared.drop_line(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};
    use std::sync::Mutex;

    use super::*;

    /// Starts a writer to a pipe. The last value is the number of dropped lines that were
    /// reported.
    fn start() -> (Writer, BufReader<io::PipeReader>, Arc<Mutex<u64>>) {
        let (reader, output) = pipe().unwrap();
        let reported = Arc::new(Mutex::new(0));
        let reporting = Arc::clone(&reported);
        let writer = Writer::start(output, move |dropped, _| *reporting.lock().unwrap() += dropped).unwrap();
        (writer, BufReader::new(reader), reported)
    }

    #[test]
    fn a_stuck_reader_costs_lines_but_no_time() {
        let (writer, mut reader, reported) = start();
        let watch = Stopwatch::start();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let sent = 20_000;
        for _ in 0..sent {
            writer.lines().push(line.clone());
        }
        // A pipe holds 64 KiB, so not all lines can have been written.
        assert!(watch.elapsed() < Duration::from_secs(5));
        assert_eq!(*reported.lock().unwrap(), 0, "nothing is reported while the reader is stuck");
        writer.lines().push(b"last\n".to_vec());
        let mut read = 0;
        let mut text = String::new();
        while watch.elapsed() < Duration::from_secs(20) && *reported.lock().unwrap() == 0 {
            text.clear();
            reader.read_line(&mut text).unwrap();
            read += 1;
            if read + *reported.lock().unwrap() == sent + 1 {
                break;
            }
            if read >= 4000 && writer.lines().shared.bytes.load(Ordering::Relaxed) == 0 {
                std::thread::sleep(OWN_LINES_INTERVAL * 2);
            }
        }
        writer.lines().push(b"end\n".to_vec());
        drop(writer);
        for line in reader.lines() {
            assert!(["end".len(), 4, 999].contains(&line.unwrap().len()));
            read += 1;
        }
        assert_eq!(read + *reported.lock().unwrap(), sent + 2, "each line was read or counted");
        assert!(*reported.lock().unwrap() > 10_000, "the queue is bounded");
    }

    #[test]
    fn closing_does_not_wait_for_a_stuck_reader() {
        let (writer, reader, _) = start();
        for _ in 0..5000 {
            writer.lines().push(vec![b'x'; 1000]);
        }
        let watch = Stopwatch::start();
        drop(writer);
        assert!(watch.elapsed() < Duration::from_secs(5));
        drop(reader);
    }

    #[test]
    fn queued_lines_are_written_when_closing() {
        let (writer, reader, _) = start();
        writer.lines().push(b"one\n".to_vec());
        writer.lines().push(vec![b'y'; 2 * MAX_LINE_BYTES]);
        drop(writer);
        let lines: Vec<String> = reader.lines().map(Result::unwrap).collect();
        assert_eq!(lines[0], "one");
        assert!(lines[1].ends_with(" (cut)") && lines[1].len() < MAX_LINE_BYTES + 10);
        assert_eq!(lines.len(), 2);
    }
}
