//! The Corefile of the lab: that of a stock cluster without what requires a cluster.

use std::{net::SocketAddr, path::Path};

use crate::cli::quoted_path;

/// A Corefile that serves a directory of manifests at `address` and forwards other names to `upstream`.
pub fn text(
    address: SocketAddr,
    directory: &Path,
    upstream: SocketAddr,
    log: bool,
) -> anyhow::Result<String> {
    let directory = quoted_path(directory)?;
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
}
