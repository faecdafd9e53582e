use super::*;
use std::cell::Cell;

fn arguments(directory: Option<&Path>) -> Arguments {
    Arguments {
        verb: None,
        directory: directory.map(Path::to_owned),
        port: Some(0),
        address: Ipv4Addr::LOCALHOST.into(),
        log: false,
        page: Some(PagePort::Off),
    }
}

#[test]
fn only_the_default_port_moves_when_in_use() {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let holder = UdpSocket::bind((ip, 0)).unwrap();
    let taken = holder.local_addr().unwrap().port();
    let error = free_address(ip, Some(taken)).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("port {taken} of 127.0.0.1 is taken; ")),
        "{error}"
    );
    // The default port may be in use.
    let free = free_address(ip, None).unwrap();
    assert!((PORT..=PORT + MORE_PORTS).contains(&free.port()));
    assert!(free_address(ip, Some(0)).unwrap().port() != 0);
}

#[test]
fn addresses_of_other_machines_are_refused() {
    let error = free_address("192.0.2.1".parse().unwrap(), None).unwrap_err();
    assert_eq!(error.to_string(), "cannot listen at 192.0.2.1 port 1053");
}

#[test]
fn invalid_directories_are_refused_before_the_start() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file.yaml");
    std::fs::write(&file, "").unwrap();
    for (path, says) in [
        (parent.path().join("absent"), "there is no such directory"),
        (file, "is a file; the lab serves a directory"),
    ] {
        let served = run_with(&arguments(Some(&path)), |_, _| panic!("served"));
        let error = served.map(|()| "served").unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn the_sample_is_removed_after_serving() {
    let seen = Cell::new(None);
    run_with(&arguments(None), |lab, started| {
        let text = std::fs::read_to_string(&lab.corefile).unwrap();
        let start = text.find("manifests \"").unwrap() + "manifests \"".len();
        let directory = PathBuf::from(text[start..].split('"').next().unwrap());
        assert!(directory.join("10-payroll.yaml").is_file());
        assert_eq!(lab.corefile, directory.join("Corefile"));
        assert!(text.contains(&format!("\n.:{} {{\n", lab.address.port())));
        let dig = format!("dig -p {} @127.0.0.1 ", lab.address.port());
        assert!(started.page().contains(&dig));
        seen.set(Some(directory));
    })
    .unwrap();
    assert!(!seen.take().unwrap().exists());
}

#[test]
fn user_directories_are_not_written_to() {
    let mine = tempfile::tempdir().unwrap();
    let corefile = run_with(&arguments(Some(mine.path())), |lab, _| {
        let text = std::fs::read_to_string(&lab.corefile).unwrap();
        let manifests = format!("manifests \"{}\"", mine.path().display());
        assert!(text.contains(&manifests), "{text}");
        assert_eq!(mine.path().read_dir().unwrap().count(), 0);
        lab.corefile
    })
    .unwrap();
    assert!(!corefile.parent().unwrap().exists());
    assert_eq!(mine.path().read_dir().unwrap().count(), 0);
}

#[test]
fn the_result_of_the_server_is_returned() {
    assert_eq!(run_with(&arguments(None), |_, _| 7).unwrap(), 7);
}
