//! The proxy, in front of a sink that tells what it hears and answers.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use testpg::Proxy;

/// A server that answers each byte with the next one, and reports it.
fn echo() -> (SocketAddr, Receiver<Option<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (heard, hears) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map(Result::unwrap) {
            let heard = heard.clone();
            thread::spawn(move || {
                let mut byte = [0];
                while let Ok(1) = stream.read(&mut byte) {
                    let _ = heard.send(Some(byte[0]));
                    let _ = stream.write_all(&[byte[0] + 1]);
                }
                let _ = heard.send(None);
            });
        }
    });
    (address, hears)
}

fn dial(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
    stream.write_all(&[byte])?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    Ok(answer[0])
}

/// No answer within a moment; a late one would only make the test pass where it should not.
fn silent(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

#[test]
fn a_cut_resets_and_refuses_until_it_is_healed() {
    let (address, hears) = echo();
    let proxy = Proxy::start(address);
    let mut open = dial(&proxy);
    assert_eq!(ask(&mut open, 1).unwrap(), 2);
    assert_eq!(hears.recv().unwrap(), Some(1));
    proxy.cut();
    assert_eq!(open.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(hears.recv().unwrap(), None);
    let refused = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    proxy.heal();
    assert_eq!(ask(&mut dial(&proxy), 3).unwrap(), 4);
}

#[test]
fn a_stall_is_for_good_for_open_connections_and_new_ones_work_after_it() {
    let (address, hears) = echo();
    let proxy = Proxy::start(address);
    let mut before = dial(&proxy);
    assert_eq!(ask(&mut before, 1).unwrap(), 2);
    assert_eq!(hears.recv().unwrap(), Some(1));
    proxy.stall();
    let mut during = dial(&proxy);
    for stream in [&mut before, &mut during] {
        stream.write_all(&[7]).unwrap();
        assert!(silent(stream));
    }
    proxy.heal();
    assert!(silent(&mut before) && silent(&mut during));
    drop(before);
    assert_eq!(ask(&mut dial(&proxy), 3).unwrap(), 4);
    // Neither the stalled bytes nor the stalled close came before it.
    assert_eq!(hears.recv().unwrap(), Some(3));
}

#[test]
fn a_request_arrives_whose_reply_is_lost() {
    let (address, hears) = echo();
    let proxy = Proxy::start(address);
    let mut stream = dial(&proxy);
    assert_eq!(ask(&mut stream, 1).unwrap(), 2);
    assert_eq!(hears.recv().unwrap(), Some(1));
    proxy.stall_replies();
    stream.write_all(&[5]).unwrap();
    assert_eq!(hears.recv().unwrap(), Some(5));
    assert!(silent(&mut stream));
    drop(stream);
    assert_eq!(hears.recv().unwrap(), None);
}

#[test]
fn closes_pass_and_new_connections_follow_the_target() {
    let (one, hears_one) = echo();
    let (two, hears_two) = echo();
    let proxy = Proxy::start(one);
    let mut first = dial(&proxy);
    assert_eq!(ask(&mut first, 1).unwrap(), 2);
    proxy.retarget(two);
    assert_eq!(ask(&mut dial(&proxy), 2).unwrap(), 3);
    assert_eq!(ask(&mut first, 3).unwrap(), 4);
    drop(first);
    assert_eq!(hears_one.iter().take(3).collect::<Vec<_>>(), [Some(1), Some(3), None]);
    assert_eq!(hears_two.iter().take(2).collect::<Vec<_>>(), [Some(2), None]);
}

#[test]
fn delayed_bytes_arrive_whole_and_in_order() {
    let (address, _hears) = echo();
    let proxy = Proxy::start(address);
    proxy.delay(Duration::from_millis(2));
    let mut stream = dial(&proxy);
    let sent: Vec<u8> = (0..200).collect();
    stream.write_all(&sent).unwrap();
    let mut answers = vec![0; sent.len()];
    stream.read_exact(&mut answers).unwrap();
    assert!(sent.iter().zip(&answers).all(|(sent, answer)| sent + 1 == *answer));
}

#[test]
fn a_target_that_refuses_is_a_reset() {
    let (address, _hears) = echo();
    let proxy = Proxy::start(address);
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    proxy.retarget(closed);
    assert_eq!(ask(&mut dial(&proxy), 1).unwrap_err().kind(), ErrorKind::ConnectionReset);
}
