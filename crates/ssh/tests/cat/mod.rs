//! Input that a program is to give back, as `cat` does.

use coderctl_ssh::{Exit, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends so many MiB, and receives them meanwhile; then both ends close, with status 0.
pub(crate) async fn there_and_back(session: Session, mebibytes: u32) {
    let Session { mut stdin, mut stdout, control, .. } = session;
    let block: Vec<u8> =
        (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let send = async {
        for _ in 0..mebibytes {
            stdin.write_all(&block).await.unwrap();
        }
        stdin.shutdown().await.unwrap();
        assert_eq!(stdin.write_all(b"x").await.unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    };
    let receive = async {
        let mut back = vec![0; block.len()];
        for _ in 0..mebibytes {
            stdout.read_exact(&mut back).await.unwrap();
            assert!(back == block);
        }
        assert_eq!(stdout.chunk().await.unwrap(), None);
    };
    tokio::join!(send, receive);
    assert_eq!(control.exit().await, Exit::Status(0));
}
