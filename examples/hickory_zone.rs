//! A server made of hickory-server that serves the Services of a cluster, as `cluster.local` and in reverse:
//!
//!     cargo run --example hickory_zone -- tests/data/manifests 127.0.0.1:1053
//!
//! The first argument is a directory of manifests, a kubeconfig file, or the URL of an API server.

use std::{error::Error, net::SocketAddr, path::PathBuf, time::Duration};

use hickory_server::{Server, zone_handler::Catalog};
use lodestone::{
    cluster::{Backend, Settings},
    hickory::ClusterZones,
    zone::AnswerRules,
};
use tokio::net::{TcpListener, UdpSocket};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let [origin, address] = &std::env::args().skip(1).collect::<Vec<_>>()[..] else {
        return Err("usage: hickory_zone DIRECTORY|KUBECONFIG|URL ADDRESS:PORT".into());
    };
    let (mut server, address) = serve(origin, address.parse()?).await?;
    println!(
        "dig -p {} @{} web.default.svc.cluster.local",
        address.port(),
        address.ip()
    );
    Ok(server.block_until_done().await?)
}

/// Serves the cluster at `origin` by UDP and TCP once all of its objects are listed.
pub async fn serve(
    origin: &str,
    address: SocketAddr,
) -> Result<(Server<Catalog>, SocketAddr), Box<dyn Error>> {
    let path = PathBuf::from(origin);
    let origin = if origin.contains("://") {
        Backend::Endpoint {
            url: origin.to_owned(),
            tls: None,
        }
    } else if path.is_dir() {
        Backend::Manifests { directory: path }
    } else {
        Backend::Kubeconfig {
            file: path,
            context: None,
        }
    };
    let names = ["cluster.local", "in-addr.arpa", "ip6.arpa"];
    let zones = ClusterZones::start(
        &names,
        Settings::new(origin),
        AnswerRules::default(),
        &[address.ip()],
    )?;
    zones.synced().await;
    let mut server = Server::new(zones.catalog());
    let tcp = TcpListener::bind(address).await?;
    let address = tcp.local_addr()?;
    server.register_socket(UdpSocket::bind(address).await?);
    server.register_listener(tcp, Duration::from_secs(10), 32);
    Ok((server, address))
}
