//! What the subcommands that ask a running server have in common.

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use serde::{Serialize, de::DeserializeOwned};

use super::output;
use crate::{
    control::{
        client::{Client, ClientError},
        socket::Address,
    },
    error_text,
};

/// Which server is asked.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct ServerArguments {
    /// Control socket of the server: a path, or a name that begins with @ [default: that of the only server
    /// here]
    #[arg(long, value_name = "SOCKET")]
    pub socket: Option<Address>,
}

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Text.
    Text,
    /// JSON.
    Json,
}

/// Connects to the server and makes a request.
pub fn with_server<T>(
    arguments: &ServerArguments,
    request: impl AsyncFnOnce(Client) -> Result<T, ClientError>,
) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("cannot start: {}", error_text::io(&error)))?;
    let requested = runtime.block_on(async {
        let client = Client::connect(arguments.socket.as_ref()).await?;
        request(client).await
    });
    requested.map_err(|error| error.to_string())
}

/// Prints to standard output, and keeps what the exit code depends on.
pub struct Output {
    format: Format,
    is_empty: bool,
    error: Option<String>,
}

impl Output {
    /// Nothing is printed yet.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            is_empty: true,
            error: None,
        }
    }

    /// Whether nothing has been printed.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Prints a line of JSON, as it is or as a text. Returns false if no more can be printed.
    pub fn line<T: DeserializeOwned>(&mut self, line: &[u8], text: impl Fn(&T) -> String) -> bool {
        self.is_empty = false;
        match self.format {
            Format::Json => self.write(&[line, b"\n"].concat()),
            Format::Text => match serde_json::from_slice(line) {
                Ok(value) => self.write(text(&value).as_bytes()),
                Err(error) => {
                    self.error = Some(format!("the server sent a line of unknown form: {error}"));
                    false
                }
            },
        }
    }

    /// Prints a value as JSON or as a text.
    pub fn value<T: Serialize>(
        &mut self,
        value: &T,
        is_something: bool,
        text: impl Fn(&T) -> String,
    ) {
        self.is_empty = !is_something;
        let text = match self.format {
            Format::Text => Ok(text(value)),
            Format::Json => serde_json::to_string_pretty(value).map(|text| text + "\n"),
        };
        match text {
            Ok(text) => {
                self.write(text.as_bytes());
            }
            Err(error) => self.error = Some(error.to_string()),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> bool {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => true,
            // Its reader has what it wants.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => false,
            Err(error) => {
                let why = error_text::io(&error);
                self.error = Some(format!("cannot write to standard output: {why}"));
                false
            }
        }
    }

    /// The exit code: 0, 1 if there was nothing to print, 2 after an error, which is printed. Where there was nothing,
    /// `nothing` is printed to standard error.
    pub fn end(self, requested: Result<(), String>, nothing: &str) -> ExitCode {
        if let Some(error) = self.error.or(requested.err()) {
            output::print_error(format!("error: {error}"));
            return ExitCode::from(2);
        }
        if self.is_empty {
            if !nothing.is_empty() {
                output::print_error(nothing);
            }
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}
