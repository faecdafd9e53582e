//! Expressions over a query, as `view` and `template` write them. No word of a Corefile.
//!
//! The language is that of expr-lang, with the functions that CoreDNS gives it ([`FACTS`] and
//! `incidr()`, `metadata()`, in templates `group()`). The library reads and evaluates it; it takes
//! some of Go's forms not at all and looks up names only where an evaluation comes by. What it
//! leaves open is settled at load, by [`text`]: every name, every pattern, `not matches` and its
//! like, and the size of an expression. A query then costs an evaluation and no reading.
//!
//! ```text
//! text   an expression's words: names and patterns checked, forms of Go's put into the library's
//! facts  what an expression can ask of a query, each found out when it is first asked
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
    query::{Edns, Query, Question, Transport},
    wire::{Class, Name, Type},
};

/// What a query can be asked for: functions without an argument.
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

/// An expression, ready to be evaluated.
#[derive(Clone)]
pub struct Expression {
    program: expr::Program,
    text: String,
}

/// What an expression may use besides the query.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scope<'a> {
    /// The variables that are set before it is evaluated.
    pub variables: &'a [String],
    /// Whether there is a regular expression whose groups `group()` tells.
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

    /// Reads an expression that is to be true or false. That it is shows in queries made up for
    /// it; where every one of them fails, there is a warning.
    pub fn read_condition(
        words: &[Word],
        scope: Scope<'_>,
        warnings: &mut Vec<Diagnostic>,
    ) -> Result<Self, Diagnostic> {
        let expression = Self::read(words, scope)?;
        let whole = text::whole(words);
        let mut failure = None;
        for query in samples() {
            let mut facts = Facts::new(&query);
            for name in scope.variables {
                facts.set(name, Value::Nil);
            }
            match expression.value(&facts) {
                Ok(Value::Bool(_)) => return Ok(expression),
                // A variable stands for anything here.
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

    /// Whether it is true for a query. Whatever else it is, or if it fails, it is not.
    pub fn holds(&self, facts: &Facts<'_>) -> bool {
        matches!(self.value(facts), Ok(Value::Bool(true)))
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// What `$call` finds in its context under a key. A macro, because the library has no public name
/// for the type of a call.
macro_rules! found {
    ($call:expr, $key:expr) => {
        match $call.ctx.get($key) {
            Some(value) => Ok(value.clone()),
            None => failed("nothing is known of the query here"),
        }
    };
}

/// The functions there are, the library's own among them. They find the query in the context.
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

/// What a value is, in words.
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

/// Queries to try an expression with.
fn samples() -> [Query; 2] {
    let name = Name::parse("www.sample.example.org.").expect("a name");
    let question = Question::new(name, Type::A, Class::IN);
    let mut plain = Query::internal(question);
    plain.client = ([192, 0, 2, 1], 40_053).into();
    plain.local = ([192, 0, 2, 53], 53).into();
    plain.size = 41;
    let mut extended = plain.clone();
    extended.client = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 40_053).into();
    extended.transport = Transport::Tcp;
    extended.edns = Some(Edns {
        udp_payload: Edns::OUR_UDP_PAYLOAD,
        version: 0,
        dnssec_ok: true,
        wants_nsid: false,
        is_padded: false,
    });
    [plain, extended]
}

#[cfg(test)]
mod tests;
