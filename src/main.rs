//! The command: parse, dispatch, exit status.

use runhound::{
    check,
    cli::{Cli, Command},
    describe::{self, DescribeError},
    generate::{self, GenerateError},
    healing::{self, HealingError},
    healthcheck::{self, HealthcheckError},
    logging,
    replay::{self, ReplayError},
    serve::{self, ServeError},
    transfer::{self, MoveError},
};
use std::{io::Write, process::ExitCode};

fn main() -> ExitCode {
    let cli = match Cli::read() {
        Ok(cli) => cli,
        Err(error) => {
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // All but the service say on standard output what there is to say.
    let is_service = matches!(cli.command, Command::Serve(_));
    logging::init(cli.log_format, if is_service { "info,actix_server=warn" } else { "warn" });
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let hint = hint(&error).map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
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
        Command::Register(arguments) => healing::register(arguments)?,
        Command::Recover(arguments) => healing::recover(arguments)?,
        Command::Backfill(arguments) => healing::backfill(arguments)?,
        Command::Ledger(arguments) => transfer::transfer(arguments)?,
        Command::Metrics(arguments) => describe::describe(arguments)?,
        Command::Healthcheck(arguments) => healthcheck::healthcheck(arguments)?,
        Command::Generate(arguments) => generate::generate(&arguments.share)?,
    }
    Ok(())
}

/// What to do about an error, where something can be said.
fn hint(error: &anyhow::Error) -> Option<&str> {
    let of_serve = || error.downcast_ref::<ServeError>().and_then(ServeError::hint);
    let of_replay = || error.downcast_ref::<ReplayError>().and_then(ReplayError::hint);
    let of_healing = || error.downcast_ref::<HealingError>().and_then(HealingError::hint);
    let of_transfer = || error.downcast_ref::<MoveError>().map(MoveError::hint);
    let of_describe = || error.downcast_ref::<DescribeError>().and_then(DescribeError::hint);
    let of_healthcheck = || error.downcast_ref::<HealthcheckError>().and_then(HealthcheckError::hint);
    let of_generate = || error.downcast_ref::<GenerateError>().map(GenerateError::hint);
    let of_serving = of_serve().or_else(of_replay).or_else(of_healing).or_else(of_transfer);
    of_serving.or_else(of_describe).or_else(of_healthcheck).or_else(of_generate)
}
