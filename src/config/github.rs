//! Which GitHub to ask, and with what.

use super::{ConfigError, Environment, variable};
use crate::{
    cli::GithubArgs,
    github::{App, Auth, Token, api_root},
};
use std::{fs, path::PathBuf};

/// Where the API is, and who asks it: the App of the arguments, or the token of the environment.
///
/// # Errors
/// Something is missing or cannot be used.
pub fn github(arguments: &GithubArgs, environment: Environment<'_>) -> Result<(String, Auth), ConfigError> {
    let root = api_root(&arguments.github_url).ok_or(ConfigError::BadGithubUrl)?;
    let app = arguments.github_app_id.as_deref().zip(arguments.github_app_key.as_ref());
    let auth = match app {
        Some((id, path)) => {
            let bad = |what: String| ConfigError::BadAppKey { path: path.clone(), what };
            let pem = fs::read(path).map_err(|error| bad(error.to_string()))?;
            Auth::App(App::new(id, &pem).map_err(bad)?)
        }
        None => Auth::Token(token(environment)?),
    };
    Ok((root, auth))
}

fn token(environment: Environment<'_>) -> Result<Token, ConfigError> {
    let name = "GITHUB_TOKEN";
    if let Some(text) = variable(environment, name)? {
        let what = "it has characters that no token has".to_owned();
        return Token::new(&text).ok_or(ConfigError::BadToken { variable: name, what });
    }
    let name = "GITHUB_TOKEN_FILE";
    let path = variable(environment, name)?.map(PathBuf::from).ok_or(ConfigError::NoToken)?;
    Token::of_file(path).map_err(|what| ConfigError::BadToken { variable: name, what })
}
