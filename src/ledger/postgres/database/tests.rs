use super::*;

fn database(url: &str) -> Result<Database, AddressError> {
    Database::new(url, Mode::Live, None, None, 400)
}

/// Why it cannot be used.
fn refused(url: &str) -> String {
    database(url).unwrap_err().to_string()
}

#[test]
fn a_url_is_read_as_libpq_reads_it_and_shown_without_what_nobody_needs_to_see() {
    for (url, shown) in [
        ("postgres://r@db.example/runhound", "PostgreSQL database runhound on db.example:5432"),
        (
            "postgresql://r@db.example:6432/runhound?application_name=x",
            "PostgreSQL database runhound on db.example:6432",
        ),
        ("postgres://r@one:1,two:2/l", "PostgreSQL database l on one:1,two:2"),
        ("postgres://r@/runhound?host=/var/run/postgresql", "PostgreSQL database runhound on /var/run/postgresql"),
        ("postgres://r@%2Frun%2Fpg/runhound", "PostgreSQL database runhound on /run/pg"),
    ] {
        assert_eq!(database(url).unwrap().to_string(), shown);
    }
}

#[test]
fn what_goes_to_another_machine_is_encrypted_unless_that_is_turned_off() {
    for (url, is_encrypted, is_private) in [
        ("postgres://r@db.example/l", true, true),
        ("postgres://r@db.example/l?sslmode=require", true, true),
        ("postgres://r@db.example/l?sslmode=verify-full", true, true),
        ("postgres://r@db.example/l?sslmode=disable", false, false),
        ("postgres://r@127.0.0.1/l", false, true),
        ("postgres://r@localhost,db.example/l", true, true),
        ("postgres://r@[::1]/l?sslmode=verify-full", true, true),
        ("postgres://r@/l?host=/run/pg", false, true),
    ] {
        let database = database(url).unwrap();
        let mode = if is_encrypted { SslMode::Require } else { SslMode::Disable };
        assert_eq!((database.tls.is_some(), database.configs[0].get_ssl_mode()), (is_encrypted, mode), "{url}");
        assert_eq!(database.is_private(), is_private, "{url}");
    }
}

#[test]
fn what_is_no_database_is_refused_by_what_is_wrong_with_it() {
    for (url, why) in [
        ("mysql://db/l", "it does not begin with postgres://"),
        ("postgres:///l", "it names no host, nor a folder of sockets as ?host=/var/run/postgresql"),
        ("postgres://db/l?sslmode=allow", "sslmode=allow is neither verify-full nor disable"),
        ("postgres://localhost/l?hostaddr=10.0.0.1", "hostaddr: name the host alone"),
        ("postgres://db:port/l", "it is not a URL of a PostgreSQL database"),
        ("postgres://db/l?nothing=1", "it is not a URL of a PostgreSQL database"),
    ] {
        assert_eq!(refused(url), why);
    }
    assert!(refused("postgres://db/l?sslrootcert=/nowhere").starts_with("sslrootcert /nowhere: "));
}

#[test]
fn a_password_stands_in_no_url_and_is_shown_by_nothing() {
    for url in
        ["postgres://r:hush@db/l", "postgres://r@db/l?password=hush", "postgres://r@db/l?PGPASSWORD=x&password=hush"]
    {
        assert!(matches!(database(url), Err(AddressError::Password)), "{url}");
    }
    let database = Database::new("postgres://r@db/l", Mode::Live, None, Some("hush"), 400).unwrap();
    assert!(!format!("{database:?} {database}").contains("hush"));
    assert_eq!(database.configs[0].get_password(), Some(&b"hush"[..]));
}
