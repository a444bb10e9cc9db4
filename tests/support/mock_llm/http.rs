//! Minimal HTTP/1.1 for the mock: one request per connection, JSON or a server-sent event stream as the answer.

use std::{collections::HashMap, io};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub struct Raw {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

pub type Header = (&'static str, String);

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

pub async fn read(stream: &mut TcpStream) -> io::Result<Raw> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(bad("the request ended in its head"));
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut body = bytes.split_off(head_end + 4);
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (first.next().unwrap_or_default().to_owned(), first.next().unwrap_or_default().to_owned());
    let headers: HashMap<String, String> =
        lines.filter_map(|l| l.split_once(':')).map(|(k, v)| (k.to_lowercase(), v.trim().to_owned())).collect();
    if headers.contains_key("expect") {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    if headers.get("transfer-encoding").is_some_and(|v| v.contains("chunked")) {
        body = read_chunks(stream, body).await?;
    } else {
        let length: usize = headers.get("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
        while body.len() < length {
            if stream.read_buf(&mut body).await? == 0 {
                return Err(bad("the request ended in its body"));
            }
        }
    }
    Ok(Raw { method, path, headers, body })
}

async fn read_chunks(stream: &mut TcpStream, mut bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        if let Some(at) = bytes.windows(2).position(|w| w == b"\r\n") {
            let size = std::str::from_utf8(&bytes[..at]).ok().and_then(|t| usize::from_str_radix(t.trim(), 16).ok());
            let size = size.ok_or_else(|| bad("a chunk without a size"))?;
            if bytes.len() >= at + 2 + size + 2 {
                body.extend_from_slice(&bytes[at + 2..at + 2 + size]);
                bytes.drain(..at + 2 + size + 2);
                if size == 0 {
                    return Ok(body);
                }
                continue;
            }
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(bad("the request ended in a chunk"));
        }
    }
}

/// Answers one request and closes the connection.
pub struct Client(TcpStream);

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        Self(stream)
    }

    async fn head(&mut self, status: u16, kind: &str, headers: &[Header], more: &str) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {status} Mock\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.0.write_all(head.as_bytes()).await
    }

    pub async fn json(mut self, status: u16, headers: &[Header], value: &Value) -> io::Result<()> {
        let body = value.to_string();
        self.head(status, "application/json", headers, &format!("Content-Length: {}\r\n", body.len())).await?;
        self.0.write_all(body.as_bytes()).await?;
        self.0.shutdown().await
    }

    pub async fn events(mut self, headers: &[Header]) -> io::Result<Events> {
        self.head(200, "text/event-stream; charset=utf-8", headers, "Transfer-Encoding: chunked\r\n").await?;
        Ok(Events(self.0))
    }
}

/// A running event stream.
pub struct Events(TcpStream);

impl Events {
    pub async fn send(&mut self, event: &str, data: &Value) -> io::Result<()> {
        self.write(&format!("event: {event}\ndata: {data}\n\n")).await
    }

    /// An event without a name.
    pub async fn data(&mut self, data: &Value) -> io::Result<()> {
        self.write(&format!("data: {data}\n\n")).await
    }

    async fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes()).await?;
        self.0.flush().await
    }

    /// The end as OpenAI's chat completions tell it.
    pub async fn done(mut self) -> io::Result<()> {
        self.write("data: [DONE]\n\n").await?;
        self.end().await
    }

    pub async fn end(mut self) -> io::Result<()> {
        self.0.write_all(b"0\r\n\r\n").await?;
        self.0.shutdown().await
    }
}
