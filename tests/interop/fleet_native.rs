//! flashfleet's client against Zephyr servers of every buffer size: what they take is filled to the byte, and no
//! more is sent. These servers have no image management, so echoes are what fills them.

use std::sync::Arc;
use std::time::Duration;

use flashfleet::client::{Client, ClientError, ClientOptions, Conversation, ServerLimits};
use flashfleet::plan::{Auto, LinkOptions};
use flashfleet::smp::RawRequest;
use flashfleet::smp::message::os::{Echo, EchoResponse};
use flashfleet::transport::{
    Connector, HostPort, MAX_MESSAGE_V4, MAX_MESSAGE_V6, SerialConnector, SerialOptions, UdpConnector, UdpHub,
};
use futures_util::future::try_join_all;

use crate::error::{Context, Result};
use crate::fleet_run::{Station, step};
use crate::native::{SerialServer, UdpServer};

/// Length and CRC of console framing, which lie in the server's buffer too.
const CONSOLE_OVERHEAD: usize = 4;
/// How long a silence is awaited that is there to stay.
const SILENCE: Duration = Duration::from_secs(2);

/// A client that sends everything once: what gets through does so at the first try.
async fn client(connector: &dyn Connector, buffer: Option<u32>) -> Result<Client> {
    let options = ClientOptions { buffer, retries: 0, ..ClientOptions::default() };
    let link = connector.connect().await.context(connector.address())?;
    Ok(Client::new(link, options, Conversation::default()))
}

fn serial(server: &SerialServer) -> SerialConnector {
    let path = server.terminal().to_string_lossy();
    SerialConnector::new(path, SerialOptions::from(&LinkOptions::default()))
}

fn udp(server: &UdpServer, mtu: Auto<u32>) -> UdpConnector {
    let place = HostPort { host: server.address().ip().to_string(), port: server.address().port() };
    UdpConnector::new(Arc::new(UdpHub::new()), place, mtu)
}

/// An echo whose message is exactly `length` bytes long.
fn echo_of(length: usize) -> Result<Echo> {
    let message = |text: usize| -> Result<(usize, Echo)> {
        let echo = Echo { d: "x".repeat(text) };
        Ok((RawRequest::new(&echo).context("echo")?.message_len(), echo))
    };
    // What is not text: between the header and the text's own head, 8 + 1 + 2 + 1 to 3 bytes.
    let (empty, _) = message(0)?;
    for text in (0..=length.saturating_sub(empty)).rev() {
        let (found, echo) = message(text)?;
        if found == length {
            return Ok(echo);
        }
    }
    panic!("no echo has a message of {length} bytes");
}

/// An echo of exactly `length` bytes comes back whole; it is sent once.
async fn assert_takes(client: &mut Client, length: usize, server: &str) -> Result<()> {
    let echo = echo_of(length)?;
    let answer = client.request(&echo).await.context(format!("{server}: {length} bytes"))?;
    assert_eq!(answer, EchoResponse { r: echo.d }, "{server}: {length} bytes");
    Ok(())
}

/// An echo of `length` bytes gets no answer, and the server lives.
async fn assert_silent(client: &mut Client, length: usize, server: &str) -> Result<()> {
    let answer = client.request_within(&echo_of(length)?, SILENCE).await;
    assert!(matches!(answer, Err(ClientError::Unanswered(_))), "{server}: {length} bytes: {answer:?}");
    client.echo_once(SILENCE).await.context(format!("{server}: after {length} bytes"))
}

#[tokio::test]
async fn fleet_native_serial_buffers_are_filled_to_the_byte() -> Result<()> {
    let configs = [
        "serial_buf96",
        "serial_buf256",
        // 384 bytes, and two buffers for lines of 128: only the pace of a wire brings a full message through.
        "serial",
        "serial_buf400",
        "serial_buf512",
        "serial_buf1024",
        "serial_buf2048",
    ];
    let fill = configs.map(|config| async move {
        let server = SerialServer::start(config)?;
        let buf_size = server.server.buf_size as usize;
        let mut client = client(&serial(&server), None).await?;
        let limits = client.limits().await.context(config)?;
        let max_message = buf_size - CONSOLE_OVERHEAD;
        let buffers = Some(server.server.buf_count);
        assert_eq!(limits, ServerLimits { max_message, fallback: None, buffers, guessed: false }, "{config}");
        assert_takes(&mut client, limits.max_message, config).await?;
        assert_silent(&mut client, limits.max_message + 1, config).await
    });
    try_join_all(fill).await.map(drop)
}

#[tokio::test]
async fn fleet_native_serial_without_params_gets_what_every_server_takes() -> Result<()> {
    let server = SerialServer::start("serial_noparams")?;
    let mut guessing = client(&serial(&server), None).await?;
    let limits = guessing.limits().await.context("limits")?;
    // Two lines of 128, the least that a UART server holds.
    assert_eq!(limits, ServerLimits { max_message: 182, fallback: None, buffers: None, guessed: true });
    assert_takes(&mut guessing, limits.max_message, "serial_noparams").await?;

    // The plan knows better.
    let server = SerialServer::start("serial_noparams")?;
    let mut told = client(&serial(&server), Some(server.server.buf_size)).await?;
    let limits = told.limits().await.context("limits")?;
    assert_eq!(limits, ServerLimits { max_message: 380, fallback: Some(182), buffers: None, guessed: false });
    assert_takes(&mut told, limits.max_message, "serial_noparams").await
}

#[tokio::test]
async fn fleet_native_udp_is_filled_to_the_byte_without_a_fragment() -> Result<()> {
    // Both servers have buffers for 2048 bytes.
    for (config, max_message) in [("udp", MAX_MESSAGE_V4), ("udp6", MAX_MESSAGE_V6)] {
        let server = UdpServer::start(config)?;
        let mut client = client(&udp(&server, Auto::Auto), None).await?;
        let limits = client.limits().await.context(config)?;
        let buffers = Some(server.server.buf_count);
        assert_eq!(limits, ServerLimits { max_message, fallback: None, buffers, guessed: false }, "{config}");
        assert_takes(&mut client, limits.max_message, config).await?;
    }
    Ok(())
}

#[test]
fn fleet_native_servers_pass_a_plan_and_refuse_an_image() -> Result<()> {
    let serial = SerialServer::start("serial")?;
    let servers = [UdpServer::start("udp")?, UdpServer::start("udp6")?];
    let station = Station::new()?;
    station.image("new.bin", &crate::images::Image::stock()?)?;
    let udp: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.address())).collect();
    let plan = |steps: &str| {
        format!(
            "version: 1
name: servers
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: network
    match: {{ udp: [{}] }}
    steps: &steps
{steps}
  - name: bench
    match: {{ port: \"{}\" }}
    steps: *steps
",
            udp.join(", "),
            serial.terminal().display()
        )
    };
    let mut addresses: Vec<String> =
        servers.iter().map(|server| format!("udp:{}", server.address())).collect();
    addresses.push(format!("serial:{}", serial.terminal().display()));

    let run = station.run("echo", &plan("      - verify: { echo: \"grüße\" }"), &[])?;
    assert_eq!(run.code, 0, "{run}");
    for address in &addresses {
        let device = run.device(address)?;
        assert_eq!((&device["verdict"], &device["changed"]), (&"passed".into(), &false.into()), "{device:#}");
    }

    let run = station.run("upload", &plan("      - upload: app"), &[])?;
    assert_eq!(run.code, 100, "{run}");
    for address in &addresses {
        let device = run.device(address)?;
        assert_eq!((&device["verdict"], &device["changed"]), (&"failed".into(), &false.into()), "{device:#}");
        assert_eq!(step(device, "upload app")?["cause"]["code"], "smp.mgmt.not_supported", "{device:#}");
    }
    Ok(())
}
