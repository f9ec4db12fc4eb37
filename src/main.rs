//! The command: parse, dispatch, exit status.

use clap::Parser;
use runhound::{
    check,
    cli::{Cli, Command},
    hints::hint,
    replay, serve,
};
use std::{io::Write, process::ExitCode};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let default_level = match cli.command {
        Command::Serve(_) => "info,actix_server=warn",
        // These say on standard output what there is to say.
        Command::Replay(_) | Command::Check(_) => "warn",
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(default_level)).init();
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let hint = hint(error.as_ref()).map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
            drop(write!(std::io::stderr(), "runhound: {error:#}\n{hint}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(arguments) => serve::serve(arguments)?,
        Command::Replay(arguments) => replay::replay(arguments)?,
        Command::Check(arguments) => check::check(arguments)?,
    }
    Ok(())
}
