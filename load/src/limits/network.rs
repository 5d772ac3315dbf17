//! TCP on loopback.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::LoadError;
use crate::series::Latencies;

/// Bytes in each write of the one-way stream.
const CHUNK_BYTES: usize = 256 << 10;
/// Bytes of each question.
const QUESTION_BYTES: usize = 2 << 10;

/// One connection, one way: bytes a second that were read.
pub(super) fn one_way(time: Duration) -> Result<f64, LoadError> {
    with_connection(|mut ours, mut theirs| {
        let reader = thread::spawn(move || io::copy(&mut theirs, &mut io::sink()));
        let (started, chunk) = (Instant::now(), vec![0_u8; CHUNK_BYTES]);
        loop {
            ours.write_all(&chunk)?;
            if started.elapsed() >= time {
                break;
            }
        }
        drop(ours);
        let bytes = reader.join().map_err(|_| io::Error::other("the reader died"))??;
        Ok(bytes as f64 / started.elapsed().as_secs_f64())
    })
}

/// There and back: how long each took.
pub(super) fn round_trips(time: Duration) -> Result<Latencies, LoadError> {
    with_connection(|mut ours, mut theirs| {
        let echo = thread::spawn(move || {
            let mut question = vec![0_u8; QUESTION_BYTES];
            while theirs.read_exact(&mut question).is_ok() && theirs.write_all(&[1]).is_ok() {}
        });
        let (started, question, mut answer) = (Instant::now(), vec![0_u8; QUESTION_BYTES], [0_u8]);
        let mut latencies = Latencies::default();
        while latencies.count() == 0 || started.elapsed() < time {
            let asked = Instant::now();
            ours.write_all(&question)?;
            ours.read_exact(&mut answer)?;
            latencies.record(asked.elapsed(), 1);
        }
        drop(ours);
        echo.join().map_err(|_| io::Error::other("the echo died"))?;
        Ok(latencies)
    })
}

fn with_connection<T>(work: impl FnOnce(TcpStream, TcpStream) -> io::Result<T>) -> Result<T, LoadError> {
    let run = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let ours = TcpStream::connect(listener.local_addr()?)?;
        let (theirs, _) = listener.accept()?;
        ours.set_nodelay(true)?;
        theirs.set_nodelay(true)?;
        work(ours, theirs)
    };
    run().map_err(LoadError::system("using loopback"))
}
