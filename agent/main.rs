//! understudy: flags to exit code, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    understudy::command::main()
}
