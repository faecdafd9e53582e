//! Expressions over a query, for `view` and `template`. Not a plugin itself.
//!
//! The language is expr-lang, with the functions that CoreDNS adds ([`FACTS`], `incidr()`,
//! `metadata()`, and in templates `group()`). The library parses and evaluates it, but lacks some
//! syntax of the Go implementation, and resolves names only during an evaluation. Therefore [`text`]
//! checks at load every name, every pattern and the size of an expression, and rewrites `not matches`
//! and the like. A query then costs an evaluation without parsing.
//!
//! ```text
//! text   checks names and patterns, and rewrites the syntax that the library lacks
//! facts  the values that an expression can use, each computed at its first use
//! ```

mod facts;
mod text;

use std::{fmt, net::IpAddr, sync::LazyLock};

use expr::Environment;
pub use expr::Value;
use ipnet::IpNet;

pub use self::facts::Facts;
use self::text::Text;
#[cfg(feature = "template")]
pub use self::text::{is_name, is_taken};
use crate::{
    corefile::{Diagnostic, Word},
    query::{Edns, Query, Question, Request, Transport},
    wire::{Class, Name, Type},
};

/// Functions without arguments: the properties of the query.
const FACTS: [&str; 13] = [
    "bufsize",
    "class",
    "client_ip",
    "do",
    "id",
    "name",
    "opcode",
    "port",
    "proto",
    "server_ip",
    "server_port",
    "size",
    "type",
];

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    program: expr::Program,
    text: String,
}

/// The names that an expression may use besides the properties of the query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The variables that are set before it is evaluated.
    pub variables: &'a [String],
    /// Whether there is a regular expression whose groups `group()` returns.
    pub groups: bool,
}

impl Expression {
    /// Reads an expression, given as the words of its line.
    pub fn read(words: &[Word], scope: Scope<'_>) -> Result<Self, Diagnostic> {
        let text = Text::read(words, scope)?;
        let program = expr::compile(&text.prepared).map_err(|error| text.refuse(&error))?;
        Ok(Self {
            program,
            text: text.prepared,
        })
    }

    /// Reads an expression that must be true or false. It is evaluated with sample queries; if it fails
    /// for all of them, a warning is added.
    pub fn read_condition(
        words: &[Word],
        scope: Scope<'_>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Self, Diagnostic> {
        let expression = Self::read(words, scope)?;
        let whole = text::span_of(words);
        let mut failure = None;
        for query in samples() {
            let mut facts = Facts::new(&query);
            for name in scope.variables {
                facts.set(name, Value::Nil);
            }
            match expression.value(&facts) {
                Ok(Value::Bool(_)) => return Ok(expression),
                // The value of a variable is unknown here.
                Ok(_) if !scope.variables.is_empty() => return Ok(expression),
                Ok(value) => {
                    let message = format!("the expression is {}, not true or false", kind(&value));
                    return Err(Diagnostic::error(message)
                        .at(whole)
                        .expected("a comparison, such as client_ip() == '192.0.2.1'"));
                }
                Err(error) => failure = Some(error),
            }
        }
        if let (Some(error), false, true) = (failure, scope.groups, scope.variables.is_empty()) {
            let query = "a query for www.sample.example.org.";
            let warning = Diagnostic::warning("the expression fails, which counts as false");
            warnings.push(
                warning
                    .at(whole)
                    .label(format!("{error}, for {query}"))
                    .help("test with 'if' what the query is like before its parts are used"),
            );
        }
        Ok(expression)
    }

    /// Its value for a query.
    pub fn value(&self, facts: &Facts<'_>) -> Result<Value, String> {
        let value = ENVIRONMENT.run(&self.program, facts);
        value.map_err(|error| error.to_string())
    }

    /// Whether it is true for a query. False if it has another value or fails.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        matches!(self.value(facts), Ok(Value::Bool(true)))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// The value of a key in the context of `$call`. A macro, because the library has no public name for
/// the type of a call.
macro_rules! found {
    ($call:expr, $key:expr) => {
        match $call.ctx.get($key) {
            Some(value) => Ok(value.clone()),
            None => failed("nothing is known of the query here"),
        }
    };
}

/// All functions, including the library's own. They find the query in the context.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    for name in FACTS {
        environment.add_function(name, move |call| found!(call, name));
    }
    environment.add_function("incidr", |call| match call.args.as_slice() {
        [Value::String(address), Value::String(network)] => in_network(address, network),
        _ => failed("incidr() takes two texts"),
    });
    environment.add_function("metadata", |call| match call.args.as_slice() {
        [Value::String(label)] => found!(call, &format!("{}{label}", facts::METADATA)),
        _ => failed("metadata() takes a text"),
    });
    environment.add_function("group", |call| match call.args.as_slice() {
        [Value::String(group)] => found!(call, &format!("{}{group}", facts::GROUP)),
        [Value::Integer(group)] => found!(call, &format!("{}{group}", facts::GROUP)),
        _ => Ok(Value::String(String::new())),
    });
    environment
});

fn failed<T>(message: &str) -> expr::Result<T> {
    Err(expr::Error::ExprError(message.to_owned()))
}

fn in_network(address: &str, network: &str) -> expr::Result<Value> {
    let Ok(address) = address.parse::<IpAddr>() else {
        return failed("the first argument of incidr() is no IP address");
    };
    let Ok(network) = network.parse::<IpNet>() else {
        return failed("the second argument of incidr() is no network");
    };
    Ok(Value::Bool(network.contains(&address.to_canonical())))
}

/// The type of a value, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "true or false",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::String(_) | Value::Bytes(_) => "a text",
        Value::Array(_) => "a list",
        Value::Nil => "nil",
        _ => "a map",
    }
}

/// Sample queries to check an expression with.
fn samples() -> [Query; 2] {
    let name = Name::parse("www.sample.example.org.").expect("a name");
    let question = Question::new(name, Type::A, Class::IN);
    let plain = Request {
        client: ([192, 0, 2, 1], 40_053).into(),
        local: ([192, 0, 2, 53], 53).into(),
        size: 41,
        ..Request::internal(question)
    };
    let extended = Request {
        client: ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 40_053).into(),
        transport: Transport::Tcp,
        edns: Some(Edns {
            udp_payload: Edns::OUR_UDP_PAYLOAD,
            version: 0,
            dnssec_ok: true,
            wants_nsid: false,
            is_padded: false,
        }),
        ..plain.clone()
    };
    [plain, extended].map(Query::new)
}

#[cfg(test)]
mod tests;
