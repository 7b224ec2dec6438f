//! `[[broker]]`: what TOML allows there and no board can call, with where it stands.

use std::{ops::Range, path::PathBuf};

use serde::Deserialize;
use toml::Spanned;

use crate::driver::{heard::Transport, mqtt::Broker, tls::Authorities};

/// Brokers a board posts to at a time.
const BROKERS_MAX: usize = 4;

/// Ports of brokers without encryption and with it, as IANA has them.
const PORT: u16 = 1_883;
const PORT_TLS: u16 = 8_883;

/// Where a Debian system keeps the certificates it trusts.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// `[[broker]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrokerConfig {
    /// `mqtt://HOST:PORT`, or `mqtts://` with encryption.
    pub url: String,
    /// The account there.
    #[serde(default)]
    pub user: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<String>,
    /// Certificates that vouch for it, a PEM file; those of the system otherwise.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Datagrams are posted to it, where they are to any.
    #[serde(default = "is_for_boards")]
    pub boards: bool,
}

const fn is_for_boards() -> bool {
    true
}

/// `[mqtt]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MqttConfig {
    /// What all topics of boards begin with.
    pub topic_prefix: String,
}

impl Default for MqttConfig {
    fn default() -> Self {
        Self { topic_prefix: String::from("understudy") }
    }
}

impl BrokerConfig {
    /// Host, port, and whether it is encrypted.
    fn place(&self) -> Result<(String, u16, bool), String> {
        let wrong = || {
            // Before that may stand a password.
            let shown = self.url.rsplit('@').next().unwrap_or_default();
            format!(
                "url = {shown:?}: it is mqtt://HOST or mqtts://HOST, with :PORT where that is not \
                 {PORT} or {PORT_TLS}; `user` and `password` are keys of their own"
            )
        };
        let (scheme, rest) = self.url.split_once("://").ok_or_else(wrong)?;
        let (is_tls, standard) = match scheme {
            "mqtt" => (false, PORT),
            "mqtts" => (true, PORT_TLS),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port != 0)),
            None => (rest, Some(standard)),
        };
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let is_host = !host.is_empty() && !host.contains(['/', '@', ' ', '?', '#']);
        port.filter(|_| is_host).map(|port| (host.to_owned(), port, is_tls)).ok_or_else(wrong)
    }

    fn check(&self) -> Result<(), String> {
        let (.., is_tls) = self.place()?;
        match (&self.user, &self.password, &self.ca) {
            (None, Some(_), _) => Err(String::from("password: there is no user with it")),
            (.., Some(_)) if !is_tls => {
                Err(String::from("ca: certificates are of use with mqtts:// alone"))
            }
            _ => Ok(()),
        }
    }

    /// As the road takes it.
    ///
    /// # Errors
    /// When its certificates cannot be read: says which file.
    pub fn broker(&self) -> Result<Broker, String> {
        let (host, port, is_tls) = self.place()?;
        let file = self.ca.clone().unwrap_or_else(|| PathBuf::from(AUTHORITIES));
        let read = || {
            Authorities::read(&file)
                .map_err(|error| format!("[[broker]] {}: {}: {error}", self.url, file.display()))
        };
        let authorities = is_tls.then(read).transpose()?;
        let account =
            self.user.clone().map(|user| (user, self.password.clone().unwrap_or_default()));
        Ok(Broker { host, port, account, authorities })
    }
}

/// Can these be called?
///
/// # Errors
/// Where it stands that they cannot, and why.
pub(super) fn check(
    transport: Transport,
    mqtt: &MqttConfig,
    brokers: &[Spanned<BrokerConfig>],
) -> Result<(), (Option<Range<usize>>, String)> {
    for (place, broker) in brokers.iter().enumerate() {
        let at = |reason| (Some(broker.span()), format!("[[broker]] {reason}"));
        broker.get_ref().check().map_err(at)?;
        if place >= BROKERS_MAX {
            return Err(at(format!("a board posts to {BROKERS_MAX} brokers at most")));
        }
    }
    let prefix = &mqtt.topic_prefix;
    let is_level = |level: &str| !level.is_empty() && !level.contains(['+', '#', '\0', '$']);
    if prefix.len() > 64 || !prefix.split('/').all(is_level) {
        let reason = format!("topic_prefix = {prefix:?}: it is a topic without + and #, 64 bytes");
        return Err((None, reason));
    }
    let has_none = !brokers.iter().any(|broker| broker.get_ref().boards);
    match transport != Transport::Udp && has_none {
        true => {
            let reason = "transport: there is no [[broker]] with its url to post to";
            Err((None, String::from(reason)))
        }
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn brokers_are_read_with_their_ports_and_accounts() {
        let text = "transport = \"both\"\n[[broker]]\nurl = \"mqtt://hub.local\"\n\
                    [[broker]]\nurl = \"mqtt://[fd00::1]:1884/\"\nuser = \"u\"\npassword = \"p\"\n";
        let brokers = Config::parse(text).unwrap().brokers().unwrap();
        assert_eq!((brokers[0].host.as_str(), brokers[0].port), ("hub.local", 1_883));
        assert_eq!((brokers[1].host.as_str(), brokers[1].port), ("fd00::1", 1_884));
        assert_eq!(brokers[1].account, Some(("u".into(), "p".into())));
    }

    #[test]
    fn what_no_board_can_call_is_named_with_its_line() {
        let broker = "[[broker]]\nurl = \"mqtt://hub\"\n";
        for (text, words) in [
            (String::from("transport = \"mqtt\""), "line 1: transport: there is no [[broker]]"),
            (String::from("transport = \"tcp\""), "unknown variant `tcp`"),
            (
                String::from("\n[[broker]]\nurl = \"hub\""),
                "line 2: [[broker]] url = \"hub\": it is",
            ),
            (String::from("[[broker]]\nurl = \"mqtt://\""), "mqtt://HOST"),
            (String::from("[[broker]]\nurl = \"mqtt://a:b@hub\""), "url = \"hub\": it is"),
            (String::from("[[broker]]\nurl = \"mqtt://hub:0\""), "mqtt://HOST"),
            (format!("{broker}password = \"p\""), "there is no user"),
            (format!("{broker}ca = \"/x\""), "mqtts:// alone"),
            (format!("{broker}[mqtt]\ntopic_prefix = \"a/#\""), "line 4: topic_prefix"),
            (broker.repeat(5), "line 9: [[broker]] a board posts to 4"),
        ] {
            let error = Config::parse(&text).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        let text =
            "transport = \"mqtt\"\n[[broker]]\nurl = \"mqtts://hub\"\nca = \"/nowhere/ca.pem\"";
        let error = Config::parse(text).unwrap().brokers().unwrap_err();
        assert!(error.contains("mqtts://hub: /nowhere/ca.pem"), "{error}");
    }
}
