//! demo: to come.
/// x
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// x
    #[arg(long)]
    pub once: bool,
}
/// x
pub fn run(_a: &Arguments) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
