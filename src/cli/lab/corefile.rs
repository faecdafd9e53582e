//! The Corefile of the lab: that of a stock cluster without what requires a cluster.

use anyhow::bail;
use std::{net::SocketAddr, path::Path};

/// A Corefile that serves a directory of manifests at `address` and forwards other names to `upstream`.
pub fn text(
    address: SocketAddr,
    directory: &Path,
    upstream: SocketAddr,
    log: bool,
) -> anyhow::Result<String> {
    let directory = quoted(directory)?;
    let log = if log { "    log\n" } else { "" };
    Ok(format!(
        "\
# The Corefile of the lab; in a cluster it is in the ConfigMap coredns. Changes are served within seconds.
# {upstream} is the lab's own outside world. For the real one: forward . /etc/resolv.conf
.:{port} {{
    bind {ip}
    errors
    reload 2s
{log}    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        manifests {directory}
        pods verified
        fallthrough in-addr.arpa ip6.arpa
    }}
    cache 30
    forward . {upstream}
    loop
    loadbalance
}}
",
        port = address.port(),
        ip = address.ip(),
    ))
}

/// A path as a quoted word of a Corefile.
fn quoted(path: &Path) -> anyhow::Result<String> {
    match path.to_str() {
        // Environment references are replaced inside quotes too and cannot be escaped; `\"` is the
        // only escape.
        Some(text)
            if !["{$", "{%", "\"", "\\", "\n", "\r"]
                .iter()
                .any(|it| text.contains(it)) =>
        {
            Ok(format!("\"{text}\""))
        }
        _ => bail!(
            "{}: a Corefile cannot contain this path (quotes, backslashes, line ends, {{$ and {{% have a \
             meaning there, and it must be UTF-8). Use another one",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_stock_one_with_manifests() {
        let address = "127.0.0.1:1053".parse().unwrap();
        let upstream = "127.0.0.1:1153".parse().unwrap();
        let text = text(address, Path::new("/tmp/my lab"), upstream, true).unwrap();
        let (comments, text) = text.split_at(text.find(".:1053").unwrap());
        assert!(comments.lines().all(|line| line.starts_with("# ")));
        assert_eq!(
            text,
            r#".:1053 {
    bind 127.0.0.1
    errors
    reload 2s
    log
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests "/tmp/my lab"
        pods verified
        fallthrough in-addr.arpa ip6.arpa
    }
    cache 30
    forward . 127.0.0.1:1153
    loop
    loadbalance
}
"#
        );
    }

    #[test]
    fn paths_that_a_corefile_cannot_contain_are_refused() {
        for path in ["/a\"b", "/a{$HOME}", "/a{%HOME%}", "/a\nb", "/a\\"] {
            let error = quoted(Path::new(path)).unwrap_err().to_string();
            assert!(
                error.contains("a Corefile cannot contain this path"),
                "{error}"
            );
        }
    }
}
