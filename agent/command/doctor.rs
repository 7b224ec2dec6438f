//! `understudy doctor`: looks at what the board depends on, and says what to do about it.

use std::process::ExitCode;

use crate::{
    config::{BrokerConfig, Config, Places},
    doctor, terminal,
};

/// What is to be looked at.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Look whether MQTT brokers are good for the group's datagrams: those of this board's
    /// configuration, or one that is named. The exit code says so too.
    Mqtt {
        /// Look at this one, mqtt://HOST or mqtts://HOST, without an account.
        #[arg(long, value_name = "URL")]
        broker: Option<String>,
    },
}

/// # Errors
/// When there is nothing to look at.
pub(super) fn run(places: &Places, action: Action) -> Result<ExitCode, String> {
    let Action::Mqtt { broker } = action;
    let config = Config::read(places)?;
    let brokers = match broker {
        Some(url) => vec![BrokerConfig { url, user: None, password: None, ca: None, boards: true }],
        None => config.named_brokers(),
    };
    if brokers.is_empty() {
        return Err(format!(
            "{} names no [[broker]]; --broker URL looks at any",
            places.config.display()
        ));
    }
    let mut are_fine = true;
    for broker in brokers {
        let found = doctor::look(&broker.broker()?, &config.mqtt.topic_prefix);
        are_fine &= found.is_fine;
        for words in found.words {
            terminal::line(&format!("{}: {words}", broker.url))?;
        }
    }
    Ok(if are_fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
