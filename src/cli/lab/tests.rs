use super::*;
use std::cell::Cell;

fn arguments(directory: Option<&Path>) -> Arguments {
    Arguments {
        directory: directory.map(Path::to_owned),
        port: Some(0),
        address: Ipv4Addr::LOCALHOST.into(),
        log: false,
    }
}

#[test]
fn the_corefile_is_a_stock_one_over_a_directory() {
    let address = "127.0.0.1:1053".parse().unwrap();
    let text = corefile(address, Path::new("/tmp/my lab"), true, true).unwrap();
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
    forward . /etc/resolv.conf
    loop
    loadbalance
}
"#
    );
}

#[test]
fn without_a_server_to_ask_nothing_is_forwarded() {
    assert!(names_a_server("# dhcp\nnameserver 192.0.2.1\n"));
    assert!(names_a_server("search a.b\nnameserver\t::1"));
    assert!(!names_a_server(
        "#nameserver 192.0.2.1\nnameserver\nsearch nameserver"
    ));
    let address = "[::1]:1053".parse().unwrap();
    let text = corefile(address, Path::new("/m"), false, false).unwrap();
    assert_eq!(
        text,
        r#".:1053 {
    bind ::1
    errors
    reload 2s
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests "/m"
        pods verified
    }
    cache 30
    loadbalance
}
"#
    );
}

#[test]
fn a_path_that_a_corefile_cannot_carry_is_refused() {
    for path in ["/a\"b", "/a{$HOME}", "/a{%HOME%}", "/a\nb", "/a\\"] {
        let error = quoted(Path::new(path)).unwrap_err().to_string();
        assert!(
            error.contains("a Corefile cannot carry this path"),
            "{error}"
        );
    }
}

#[test]
fn a_taken_port_is_moved_from_only_where_nobody_asked_for_it() {
    let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let holder = UdpSocket::bind((ip, 0)).unwrap();
    let taken = holder.local_addr().unwrap().port();
    let error = free_address(ip, Some(taken)).unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("port {taken} of 127.0.0.1 is taken; ")),
        "{error}"
    );
    // The default port may be anybody's; what is given is free, whichever it is.
    let free = free_address(ip, None).unwrap();
    assert!((PORT..=PORT + NEXT).contains(&free.port()));
    assert!(free_address(ip, Some(0)).unwrap().port() != 0);
}

#[test]
fn an_address_of_another_machine_is_refused() {
    let error = free_address("192.0.2.1".parse().unwrap(), None).unwrap_err();
    assert_eq!(error.to_string(), "cannot listen at 192.0.2.1 port 1053");
}

#[test]
fn a_directory_that_is_none_is_refused_before_anything_starts() {
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
fn the_sample_is_there_while_it_is_served_and_gone_afterwards() {
    let seen = Cell::new(None);
    run_with(&arguments(None), |lab, started| {
        let text = std::fs::read_to_string(&lab.corefile).unwrap();
        let start = text.find("manifests \"").unwrap() + "manifests \"".len();
        let directory = PathBuf::from(text[start..].split('"').next().unwrap());
        assert!(directory.join("10-payroll.yaml").is_file());
        assert_eq!(lab.corefile, directory.join("Corefile"));
        assert!(text.starts_with(&format!(".:{} {{", lab.address.port())));
        let dig = format!("dig -p {} @127.0.0.1 ", lab.address.port());
        assert!(started.page().contains(&dig));
        seen.set(Some(directory));
    })
    .unwrap();
    assert!(!seen.take().unwrap().exists());
}

#[test]
fn nothing_is_written_into_a_directory_of_somebody_elses() {
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
fn what_the_server_returns_is_handed_on() {
    assert_eq!(run_with(&arguments(None), |_, _| 7).unwrap(), 7);
}
