//! Clients that are no gdb, or a bad one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use pvh_gdb::{Address, Served};
use support::Model;

fn connect(model: &Model) -> TcpStream {
    let Address::Loopback(port) = model.address else {
        panic!("{:?}", model.address);
    };
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    stream
}

/// Sends bytes; returns what the server said until it closed the connection.
fn send(model: &Model, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(model);
    let mut answer = Vec::new();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let _ = stream.read_to_end(&mut answer);
    answer
}

fn packet(body: &str) -> Vec<u8> {
    let sum = body.bytes().fold(0_u8, u8::wrapping_add);
    format!("+${body}#{sum:02x}").into_bytes()
}

/// The next thing told that is not a connection.
fn lost(model: &Model) -> String {
    loop {
        match model.told.recv_timeout(Duration::from_secs(10)).unwrap() {
            Served::Connected => {}
            Served::Lost { why, is_stopped } => {
                assert!(is_stopped, "the guest waits for the next client");
                return why;
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_browser_is_not_served() {
    let model = Model::start(1);
    let mut request = b"POST / HTTP/1.1\r\nContent-Length: 100\r\n\r\n".to_vec();
    request.extend(packet("vKill;1"));
    assert!(send(&model, &request).is_empty());
    assert_eq!(lost(&model), "the client does not speak gdb's protocol");
    assert!(model.killed.try_recv().is_err());
    model.end();
}

#[test]
fn a_packet_longer_than_the_limit_ends_the_connection() {
    let model = Model::start(1);
    let mut bytes = b"+$".to_vec();
    bytes.resize(1 << 20, b'm');
    send(&model, &bytes);
    assert!(!lost(&model).is_empty());
    model.end();
}

#[test]
fn an_answer_without_end_ends_the_connection() {
    let model = Model::start(1);
    send(&model, &packet("m0,ffffffffffffffff"));
    let why = lost(&model);
    assert!(why.contains("1048576") || why.contains("closed"), "{why}");
    model.end();
}

#[test]
fn bytes_of_every_kind_end_in_a_lost_connection_and_never_in_a_panic() {
    let model = Model::start(2);
    let bodies = [
        "g",
        "G00",
        "Gzz",
        "m,",
        "m0,",
        "mzz,1",
        "M0,4:00",
        "X0,4:",
        "Z0,0,0",
        "Z9,0,0",
        "Z2,1,8",
        "Z4,0,ffffffffffffffff",
        "z0,0,1",
        "vCont;s:0",
        "Hg-1",
        "Hgffffffffffffffff",
        "qRcmd,",
        "qRcmd,zz",
        "qRcmd,77616c6b",
        "qXfer:features:read:target.xml:ffffffffffffffff,1",
        "vCont;x",
        "T99",
        "QStartNoAckMode",
        "qSupported:",
        "!",
        "R",
        "?",
        "D",
        "",
    ];
    for body in bodies {
        send(&model, &packet(body));
    }
    for seed in 0..64_u8 {
        let noise = (0..200_u8).map(|n| n.wrapping_mul(seed).wrapping_add(seed) ^ n);
        let noise: Vec<_> = b"+$".iter().copied().chain(noise).collect();
        send(&model, &noise);
    }
    // The server still serves.
    let answer = send(&model, &packet("?"));
    assert!(
        answer.starts_with(b"+$"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    model.end();
}

#[test]
fn a_client_that_is_silent_does_not_hold_up_the_end() {
    let model = Model::start(1);
    let _silent = connect(&model);
    let _next = connect(&model);
    std::thread::sleep(Duration::from_millis(50));
    let began = std::time::Instant::now();
    model.end();
    assert!(began.elapsed() < Duration::from_secs(2));
}
