//! The queue between the threads that log and the one that writes.

use std::io::{self, ErrorKind, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::DROPPED;
use crate::clock::Stopwatch;

/// Most lines that wait to be written.
const MOST_LINES: usize = 8192;
/// Most bytes of lines that wait to be written.
const MOST_BYTES: usize = 4 << 20;
/// Longest line, in bytes; a longer one is cut.
const LONGEST_LINE: usize = 32 << 10;
/// How often the log may say something about itself.
const TICK: Duration = Duration::from_millis(200);
/// Pause before a stderr that can't be waited for (`O_NONBLOCK`) is tried again.
const AGAIN: Duration = Duration::from_millis(20);
/// At the end: the longest time in which stderr takes nothing.
const STUCK: Duration = Duration::from_millis(500);
/// At the end: the longest time in all.
const LONGEST_END: Duration = Duration::from_secs(10);

/// The end of the queue that takes lines. Clones share the queue.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    sender: Sender<Vec<u8>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Bytes of the lines in the queue.
    bytes: AtomicUsize,
    /// Lines dropped since the log last said so.
    dropped: AtomicU64,
    /// Steps of the writer, to tell a slow reader from one that is stuck.
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
    pub(super) fn offer(&self, mut line: Vec<u8>) {
        if line.len() > LONGEST_LINE {
            line.truncate(LONGEST_LINE);
            line.extend_from_slice(b" (cut)\n");
        }
        let length = line.len();
        let waiting = self.shared.bytes.fetch_add(length, Ordering::Relaxed);
        if waiting + length > MOST_BYTES || self.sender.try_send(line).is_err() {
            self.shared.bytes.fetch_sub(length, Ordering::Relaxed);
            self.shared.drop_line();
        }
    }
}

/// The log's layer writes one whole line at a time.
impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.offer(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The thread that writes. Dropping it ends the thread, unless its output is
/// stuck: then the thread is left behind for the end of the process.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Lines,
    ended: Receiver<()>,
}

impl Writer {
    /// Starts the thread `dats-log`. It calls `log_own` several times a second
    /// while the output is not stuck, with the number of lines dropped since the
    /// last call and whether the log is closing; what that logs is written, too.
    pub(super) fn start(
        output: impl Write + Send + 'static,
        log_own: impl Fn(u64, bool) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, receiver) = bounded(MOST_LINES);
        let (end, ended) = bounded(1);
        let lines = Lines { sender, shared: Arc::default() };
        let shared = Arc::clone(&lines.shared);
        std::thread::Builder::new().name("dats-log".to_owned()).spawn(move || {
            run(&receiver, &shared, output, log_own);
            let _ = end.send(());
        })?;
        Ok(Self { lines, ended })
    }

    /// The end of its queue that takes lines.
    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let shared = &self.lines.shared;
        shared.closing.store(true, Ordering::Release);
        // Wakes the thread, should it wait for a line.
        let _ = self.lines.sender.try_send(Vec::new());
        let watch = Stopwatch::start();
        while watch.elapsed() < LONGEST_END {
            let before = shared.written.load(Ordering::Relaxed);
            let is_waiting = matches!(self.ended.recv_timeout(STUCK), Err(RecvTimeoutError::Timeout));
            if !is_waiting || shared.written.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }
}

fn run(lines: &Receiver<Vec<u8>>, shared: &Shared, mut output: impl Write, log_own: impl Fn(u64, bool)) {
    let mut since_own = Stopwatch::start();
    loop {
        let received = lines.recv_timeout(TICK);
        if let Ok(line) = &received {
            shared.bytes.fetch_sub(line.len(), Ordering::Relaxed);
            write(&mut output, line, shared);
        }
        let closing = shared.closing.load(Ordering::Acquire);
        // A summary behind the lines that were dropped, not among those before them.
        if lines.is_empty() && (closing || since_own.elapsed() >= TICK) {
            log_own(shared.dropped.swap(0, Ordering::Relaxed), closing);
            since_own = Stopwatch::start();
        }
        if matches!(received, Err(RecvTimeoutError::Disconnected)) || closing && lines.is_empty() {
            return;
        }
    }
}

/// Writes a line however slowly it is taken. A closed output drops it.
fn write(output: &mut impl Write, mut rest: &[u8], shared: &Shared) {
    while !rest.is_empty() {
        match output.write(rest) {
            Ok(0) => return shared.drop_line(),
            Ok(count) => {
                rest = rest.get(count..).unwrap_or_default();
                shared.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(AGAIN),
            Err(_) => return shared.drop_line(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, pipe};
    use std::sync::Mutex;

    use super::*;

    /// Writes to a pipe; the last value is the number of dropped lines that were told.
    fn started() -> (Writer, BufReader<io::PipeReader>, Arc<Mutex<u64>>) {
        let (reader, output) = pipe().unwrap();
        let told = Arc::new(Mutex::new(0));
        let telling = Arc::clone(&told);
        let writer = Writer::start(output, move |dropped, _| *telling.lock().unwrap() += dropped).unwrap();
        (writer, BufReader::new(reader), told)
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_no_time() {
        let (writer, mut reader, told) = started();
        let watch = Stopwatch::start();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let sent = 20_000;
        for _ in 0..sent {
            writer.lines().offer(line.clone());
        }
        // A pipe has room for 64 KiB: all of it could not have been written.
        assert!(watch.elapsed() < Duration::from_secs(5));
        assert_eq!(*told.lock().unwrap(), 0, "nothing is said while nobody reads");
        writer.lines().offer(b"last\n".to_vec());
        let mut read = 0;
        let mut text = String::new();
        while watch.elapsed() < Duration::from_secs(20) && *told.lock().unwrap() == 0 {
            text.clear();
            reader.read_line(&mut text).unwrap();
            read += 1;
            if read + *told.lock().unwrap() == sent + 1 {
                break;
            }
            if read >= 4000 && writer.lines().shared.bytes.load(Ordering::Relaxed) == 0 {
                std::thread::sleep(TICK * 2);
            }
        }
        writer.lines().offer(b"end\n".to_vec());
        drop(writer);
        for line in reader.lines() {
            assert!(["end".len(), 4, 999].contains(&line.unwrap().len()));
            read += 1;
        }
        assert_eq!(read + *told.lock().unwrap(), sent + 2, "each line was read or counted");
        assert!(*told.lock().unwrap() > 10_000, "the queue has a bound");
    }

    #[test]
    fn the_end_does_not_wait_for_a_stuck_reader() {
        let (writer, reader, _) = started();
        for _ in 0..5000 {
            writer.lines().offer(vec![b'x'; 1000]);
        }
        let watch = Stopwatch::start();
        drop(writer);
        assert!(watch.elapsed() < Duration::from_secs(5));
        drop(reader);
    }

    #[test]
    fn the_last_lines_are_written_at_the_end() {
        let (writer, reader, _) = started();
        writer.lines().offer(b"one\n".to_vec());
        writer.lines().offer(vec![b'y'; 2 * LONGEST_LINE]);
        drop(writer);
        let lines: Vec<String> = reader.lines().map(Result::unwrap).collect();
        assert_eq!(lines[0], "one");
        assert!(lines[1].ends_with(" (cut)") && lines[1].len() < LONGEST_LINE + 10);
        assert_eq!(lines.len(), 2);
    }
}
