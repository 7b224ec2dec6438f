//! JSON for whoever listens at a web address, within a time, whatever is there. For a
//! thread that may wait.
//!
//! Left out: TLS. A command that speaks it (curl) is as easily named.

use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, Uri, header},
};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where a POST can be sent.
///
/// # Errors
/// Says what it must be like. It may hold a secret: it is not repeated.
pub fn url(text: &str) -> Result<Uri, String> {
    let url: Option<Uri> = text.parse().ok();
    let is_plain = |url: &Uri| {
        let authority = url.authority();
        let port = authority.and_then(|authority| authority.as_str().rsplit_once(':'));
        let port = port.filter(|(_, port)| !port.contains(']'));
        url.scheme_str() == Some("http")
            && url.host().is_some_and(|host| !host.is_empty())
            && port.is_none_or(|(_, port)| port.parse::<u16>().is_ok())
            && authority.is_some_and(|authority| !authority.as_str().contains('@'))
    };
    url.filter(is_plain).ok_or_else(|| {
        String::from(
            "it is http://HOST[:PORT]/PATH: plain HTTP, without a name and a password (a command \
             such as curl speaks https)",
        )
    })
}

/// Sends JSON by POST.
///
/// # Errors
/// In words: nobody is there, it takes too long, or says no.
pub fn json(to: &str, body: String, limit: Duration) -> Result<(), String> {
    let to = url(to)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let done = runtime.block_on(async { tokio::time::timeout(limit, send(&to, body)).await });
    // A name that is still being looked up holds nobody up.
    runtime.shutdown_background();
    done.unwrap_or_else(|_| Err(format!("no answer within {} s", limit.as_secs())))
}

async fn send(url: &Uri, body: String) -> Result<(), String> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(80);
    let to = format!("{host} port {port}");
    let stream = TcpStream::connect((host, port)).await;
    let stream = stream.map_err(|error| format!("{to}: {error}"))?;
    let at = |error: hyper::Error| format!("{to}: {error}");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(at)?;
    tokio::spawn(connection);
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::post(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, "understudy")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .map_err(|error| error.to_string())?;
    let status = sender.send_request(request).await.map_err(at)?.status();
    match status.is_success() {
        true => Ok(()),
        false => Err(format!("{to} answers {status}")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
    };

    use super::*;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(60);

    fn posted(answer: &'static str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 4_096];
            let mut bytes = 0;
            while !asked[..bytes].ends_with(b"{\"a\":1}") {
                bytes += stream.read(&mut asked[bytes..]).unwrap();
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..bytes]).into_owned()
        });
        let posted = json(&format!("http://{address}/x?y=1"), String::from("{\"a\":1}"), LONG);
        (posted, server.join().unwrap())
    }

    #[test]
    fn an_address_gets_json_and_what_it_answers_counts() {
        let (posted_to, asked) = posted("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(posted_to, Ok(()));
        assert!(asked.starts_with("POST /x?y=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{asked}");
        assert!(asked.contains("content-length: 7\r\n"), "{asked}");
        for answer in ["HTTP/1.0 500 No\r\n\r\n", "220 smtp.example\r\n", ""] {
            assert!(posted(answer).0.unwrap_err().contains("127.0.0.1 port"));
        }
    }

    #[test]
    fn an_address_that_says_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limit = Duration::from_millis(200);
        let error = json(&format!("http://{address}/"), String::from("{}"), limit).unwrap_err();
        assert!(error.contains("no answer"), "{error}");
    }

    #[test]
    fn a_url_is_one_that_a_post_can_be_sent_to_and_is_not_repeated() {
        for text in ["http://10.0.0.7/hook?x=1", "http://[fd00::7]:8080/", "http://hub.local"] {
            assert!(url(text).is_ok(), "{text}");
        }
        for text in [
            "https://hub/secret",
            "hub/secret",
            "http:///secret",
            "http://a:secret@b/",
            "http://a:secret/",
            "http://a/ secret",
            "",
        ] {
            let reason = url(text).unwrap_err();
            assert!(reason.contains("plain HTTP") && !reason.contains("secret"), "{reason}");
        }
    }
}
