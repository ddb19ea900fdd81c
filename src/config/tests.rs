//! Tests of loading all sources.

use std::io::Write as _;

use std::path::PathBuf;

use super::load::defaults;
use super::tree::Value;
use super::*;

fn environment(pairs: &[(&str, &str)]) -> Sources {
    let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn with_file(yaml: &str, check: impl FnOnce(&Sources)) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(yaml.as_bytes()).unwrap();
    check(&Sources { file: Some(file.path().to_owned()), ..Sources::default() });
}

fn refusal(sources: &Sources) -> String {
    Config::load(sources).unwrap_err().to_string()
}

/// A valid value other than the default, for each key.
const OTHER_VALUES: &[(&str, &str)] = &[
    ("server.listen", "0.0.0.0:9000"),
    ("server.worker_threads", "777"),
    ("server.allowed_hosts", "[dats.example.com]"),
    ("server.max_connections", "11"),
    ("server.max_connections_per_address", "11"),
    ("server.max_streams", "11"),
    ("server.header_timeout_seconds", "6"),
    ("server.body_timeout_seconds", "31"),
    ("server.max_body_bytes", "2048"),
    ("server.walk_timeout_seconds", "31"),
    ("server.drain_timeout_seconds", "31"),
    ("engine.data_dir", "/elsewhere"),
    ("engine.verify_at_start", "true"),
    ("engine.queue_capacity", "11"),
    ("engine.group_commit_max", "11"),
    ("engine.store_cache_mib", "11"),
    ("engine.hot_tasks_mib", "0"),
    ("engine.retention_days", "0"),
    ("engine.checkpoint_tasks", "11"),
    ("engine.checkpoint_hours", "1"),
    ("engine.checkpoints_kept", "0"),
    ("engine.idempotency_hours", "1"),
    ("engine.idempotency_max_keys", "1"),
    ("engine.max_projects", "1"),
    ("engine.min_free_disk_mib", "1"),
    ("task_management.default_priority", "high"),
    ("task_management.max_concurrent_per_project", "5"),
    ("task_management.timeout_default_seconds", "5"),
    ("task_management.max_attempts_default", "5"),
    ("task_management.aging_seconds", "5"),
    ("task_management.backoff_initial_seconds", "5"),
    ("task_management.backoff_max_seconds", "5"),
    ("task_management.escalate_to", "{tiny: frontier}"),
    ("task_management.qa_profile_default", "strict"),
    ("task_management.validation_timeout_seconds", "5"),
    ("task_management.review_timeout_seconds", "5"),
    ("task_management.lease_default_seconds", "5"),
    ("task_management.lease_max_seconds", "60"),
    ("task_management.max_lost_leases", "5"),
    ("routing.agent_service_url", "http://agent:8000/api/v1"),
    ("routing.rag_service_url", "http://rag:8000/api/v1"),
    ("routing.ca_file", "/etc/ca.pem"),
    ("routing.agent_timeout_seconds", "5"),
    ("routing.rag_timeout_seconds", "6"),
    ("routing.max_concurrent_calls", "5"),
    ("routing.context_max_tokens", "5"),
    ("routing.max_depth", "0"),
    ("routing.max_subtasks", "5"),
    ("routing.fallback", "wait"),
    ("routing.fallback_after_seconds", "5"),
    ("routing.tiers", "[huge, tiny, small, large, coding, frontier]"),
    ("routing.default_tier", "tiny"),
    ("routing.default_domain", "analysis"),
    ("routing.rules", "[{min_length: 5, tier: tiny}]"),
    ("storage.database_url", "postgresql://dats:hunter2@postgres/dats"),
    ("storage.provenance_table", "_records2"),
    ("storage.batch_rows", "5"),
    ("storage.copy_contents", "true"),
    ("storage.statement_timeout_seconds", "5"),
    ("storage.retry_max_seconds", "5"),
    ("events.park_minutes", "0"),
    ("events.dedup_window_hours", "1"),
    ("events.dedup_max_ids", "1"),
    ("events.retention_hours", "1"),
    ("events.heartbeat_seconds", "1"),
    ("events.bus", "embedded"),
    ("events.rabbitmq.host", "rabbitmq"),
    ("events.rabbitmq.port", "5671"),
    ("events.rabbitmq.username", "dats"),
    ("events.rabbitmq.password", "12345"),
    ("events.rabbitmq.vhost", "dats"),
    ("events.rabbitmq.tls", "true"),
    ("events.rabbitmq.ca_file", "/etc/ca.pem"),
    ("events.rabbitmq.exchanges", "[a, b, c]"),
    ("events.rabbitmq.queues", "[q]"),
    ("events.rabbitmq.work_queues.declare", "false"),
    ("events.rabbitmq.work_queues.name", "work-{tier}"),
    ("events.rabbitmq.work_queues.require_consumer", "never"),
    ("events.rabbitmq.queue_type", "classic"),
    ("events.rabbitmq.prefetch", "1"),
    ("events.rabbitmq.window", "1"),
    ("events.rabbitmq.confirm_timeout_seconds", "1"),
    ("events.rabbitmq.unobserved_wait_seconds", "1"),
    ("security.api_key", "12345"),
    ("telemetry.log_level", "DEBUG"),
    ("telemetry.log_format", "json"),
    ("telemetry.otlp_endpoint", "http://collector:4318"),
    ("telemetry.otlp_traces_endpoint", "http://collector:4318/v1/traces"),
    ("telemetry.ca_file", "/etc/ssl/own.pem"),
    ("telemetry.service_name", "other"),
];

fn variable(key: &str) -> String {
    format!("DATS__{}", key.to_uppercase().replace('.', "__"))
}

#[test]
fn every_key_changes_something() {
    let builtin = Config::builtin();
    for (key, _) in defaults().leaves() {
        let found = OTHER_VALUES.iter().find(|(known, _)| *known == key);
        let (_, value) = found.unwrap_or_else(|| panic!("no other value for {key}"));
        // Settings of the broker apply with a broker, CA files with encryption.
        let mut others = Vec::new();
        if key == "events.bus" || key.starts_with("events.rabbitmq.") {
            others.push(("RABBITMQ_HOST", "broker"));
        }
        if key == "telemetry.ca_file" {
            others.push(("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318"));
        }
        if key == "routing.ca_file" {
            others.push(("DATS__ROUTING__AGENT_SERVICE_URL", "https://agent"));
        }
        if key == "events.rabbitmq.ca_file" {
            others.push(("DATS__EVENTS__RABBITMQ__TLS", "true"));
        }
        let before = if others.is_empty() { builtin.clone() } else { Config::load(&environment(&others)).unwrap() };
        let variable = variable(&key);
        others.insert(0, (variable.as_str(), *value));
        let config = Config::load(&environment(&others)).unwrap();
        assert_ne!(config, before, "{key} changes nothing");
    }
}

#[test]
fn the_address_of_a_collector_is_checked_without_repeating_its_password() {
    for (url, what) in [
        ("http://dats:hunter2@collector:4318", "must not contain a user name or password"),
        ("https://dats:hunter2@collector:4318", "must not contain a user name or password"),
        ("http://dats:hun/ter2@collector", "must not contain a user name or password"),
        ("https://-collector:4318", "must have a host that a certificate can be issued for"),
        ("collector:4317", "must begin with http:// or https://"),
        ("http://", "must be a URL"),
    ] {
        let sources = environment(&[("OTEL_EXPORTER_OTLP_ENDPOINT", url)]);
        let message = refusal(&sources);
        assert!(message.contains(what) && message.contains("telemetry.otlp_endpoint"), "{message}");
        assert!(!format!("{message}{}", show_yaml(&sources).unwrap()).contains("ter2"), "{message}");
    }
    let sources = environment(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/"), ("OTEL_SERVICE_NAME", "x")]);
    let Telemetry { collector, service_name, .. } = Config::load(&sources).unwrap().telemetry;
    assert_eq!((collector.unwrap().to_string(), service_name.as_str()), ("http://collector:4318".to_owned(), "x"));
}

#[test]
fn ca_files_are_refused_without_encryption() {
    let variables = [("RABBITMQ_HOST", "broker"), ("DATS__EVENTS__RABBITMQ__CA_FILE", "/etc/ca.pem")];
    let message = refusal(&environment(&variables));
    assert!(message.contains("events.rabbitmq.ca_file") && message.contains("tls is false"), "{message}");
    let plain = ("DATS__ROUTING__RAG_SERVICE_URL", "http://rag:8000");
    let file = ("DATS__ROUTING__CA_FILE", "/etc/ca.pem");
    let message = refusal(&environment(&[plain, file]));
    assert!(message.contains("DATS__ROUTING__CA_FILE: routing.ca_file can't be \"/etc/ca.pem\""), "{message}");
    assert!(message.contains("null as long as neither service has an https:// address"), "{message}");
    with_file("routing:\n  rag_service_url: https://rag\n  ca_file: \"\"\n", |sources| {
        let empty = refusal(sources);
        assert!(empty.contains(":3: routing.ca_file can't be \"\": expected the path of a file"), "{empty}");
    });
}

#[test]
fn both_services_use_the_same_ca_file() {
    let agent = ("DATS__ROUTING__AGENT_SERVICE_URL", "https://agent");
    let rag = ("DATS__ROUTING__RAG_SERVICE_URL", "https://rag");
    let settings = Config::load(&environment(&[agent, rag, ("DATS__ROUTING__CA_FILE", "/etc/ca.pem")]));
    let settings = settings.unwrap().routing.settings();
    for service in [settings.agent.unwrap(), settings.rag.unwrap()] {
        assert!(service.address.is_encrypted());
        assert_eq!(service.ca_file, Some(PathBuf::from("/etc/ca.pem")));
    }
}

#[test]
fn the_shipped_example_is_valid() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = path.join("config/orchestration-service.yaml");
    let config = Config::load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
    assert_eq!(config, Config::builtin());
}

#[test]
fn the_settings_of_the_container_are_valid() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let compose = std::fs::read_to_string(path.join("deploy/compose.yaml")).unwrap();
    let url = compose.lines().find_map(|line| line.trim().strip_prefix("DATABASE_URL: ")).unwrap();
    let mut sources = environment(&[("DATABASE_URL", &url.replace("${POSTGRES_PASSWORD:?set it}", "hunter2"))]);
    sources.file = Some(path.join("config/deployment.yaml"));
    let config = Config::load(&sources).unwrap();
    assert_eq!(config.storage.database.unwrap().to_string(), "postgres:5432/dats");
    assert!(!show_yaml(&sources).unwrap().contains("hunter2"));
}

#[test]
fn the_address_of_a_database_is_never_repeated() {
    for (url, what) in [
        ("mysql://dats:hunter2@h/d", "must begin with postgresql://"),
        ("postgresql://dats:hunter2@h:x/d", "is not of the form"),
        ("postgresql://h/d?user=dats&password=hunter2", "is not of the form"),
        ("postgresql://dats:hunter2@h/d?sslmode=maybe", "another sslmode"),
        ("postgresql://dats:p@hunter2@h/d", "is written %40"),
        ("host=h user=dats password='hunter2' dbname=d", "must begin with postgresql://"),
    ] {
        let sources = environment(&[("DATABASE_URL", url)]);
        assert!(!show_yaml(&sources).unwrap().contains("hunter2"), "{url}");
        let message = refusal(&sources);
        assert!(message.contains(what) && message.contains("DATABASE_URL"), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    for name in ["Records", "1st", "a b", "tasks", "x\"; DROP TABLE tasks; --", &"x".repeat(64)] {
        let message = refusal(&environment(&[("DATS__STORAGE__PROVENANCE_TABLE", name)]));
        assert!(message.contains("storage.provenance_table"), "{message}");
    }
}

#[test]
fn later_layers_override_earlier_ones() {
    with_file("server:\n  listen: 127.0.0.1:1\nengine:\n  queue_capacity: 7\n", |sources| {
        let mut sources = sources.clone();
        assert_eq!(Config::load(&sources).unwrap().server.listen.port(), 1);
        sources.environment = vec![("SERVICE_PORT".into(), "2".into())];
        assert_eq!(Config::load(&sources).unwrap().server.listen.port(), 2);
        sources.environment.push(("DATS__SERVER__LISTEN".into(), "[::1]:3".into()));
        assert_eq!(Config::load(&sources).unwrap().server.listen.port(), 3);
        sources.flags.push(Flag { name: "--listen", key: "server.listen", value: "localhost:4".into() });
        let config = Config::load(&sources).unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:4");
        assert_eq!(config.engine.queue_capacity, 7);
    });
}

#[test]
fn unknown_keys_are_refused_with_their_place_and_the_nearest_key() {
    with_file("server:\n  lisen: x\nmax_concurrent_per_project: 3\n", |sources| {
        let shown = sources.file.as_ref().unwrap().display();
        assert_eq!(
            refusal(sources),
            format!(
                "{shown}:2: server.lisen is not a setting: did you mean server.listen?\n\
                 {shown}:3: max_concurrent_per_project is not a setting: \
                 did you mean task_management.max_concurrent_per_project?"
            )
        );
    });
    assert_eq!(refusal(&environment(&[("DATS__NOPE", "1")])), "environment variable DATS__NOPE: nope is not a setting");
}

#[test]
fn all_problems_are_reported_at_once() {
    let yaml = "server:\n  listen: here\n  max_connections: -1\nengine:\n  retention_days: 1.5\n";
    with_file(yaml, |sources| {
        let error = Config::load(sources).unwrap_err();
        let keys: Vec<&str> = error.problems().iter().map(Problem::key).collect();
        assert_eq!(keys, ["server.listen", "server.max_connections", "engine.retention_days"]);
        let text = error.to_string();
        assert!(text.contains(":2: server.listen can't be \"here\": expected IP:PORT"), "{text}");
        assert!(text.contains(":3: server.max_connections can't be -1"), "{text}");
        assert!(text.contains("a whole number from 1 to 1000000"), "{text}");
    });
}

#[test]
fn messages_about_invalid_values_describe_the_allowed_ones() {
    for (key, value, expected) in [
        ("task_management.default_priority", "urgent", "one of low, normal, high"),
        ("task_management.escalate_to", "{tiny: giant}", "from tiny to \"giant\""),
        ("task_management.escalate_to", "{tiny: small, small: tiny}", "has a cycle"),
        ("task_management.escalate_to", "{tiny: tiny}", "has a cycle"),
        ("task_management.lease_default_seconds", "4000", "no more than"),
        ("routing.default_tier", "giant", "one of routing.tiers (tiny"),
        ("routing.agent_service_url", "https://-agent", "a host that a certificate can be issued for"),
        ("routing.rag_service_url", "agent:8000", "must begin with http:// or https://"),
        ("routing.rules", "[{tier: tiny}]", "a condition"),
        ("routing.rules", "[{keywords: [a], tier: giant}]", "one of routing.tiers"),
        ("routing.rules", "[{keywords: [a], teir: tiny}]", "only the keys"),
        ("routing.tiers", "[tiny, tiny]", "each name once"),
        ("routing.tiers", "[Tiny]", "beginning with a letter"),
        ("task_management.max_attempts_default", "21", "from 1 to 20"),
        ("events.bus", "kafka", "embedded, rabbitmq or null"),
        ("server", "1", "is a section"),
    ] {
        let message = refusal(&environment(&[(&variable(key), value)]));
        assert!(message.contains(expected), "{key}={value}: {message}");
        assert!(message.starts_with("environment variable DATS__"), "{message}");
    }
    let message = refusal(&environment(&[("SERVICE_PORT", "http")]));
    assert!(message.contains("0 to 65535"), "{message}");
    let message = refusal(&environment(&[("RABBITMQ_HOST", "x"), ("RABBITMQ_PORT", "amqp://10.0.0.1:5672")]));
    assert!(message.contains("RABBITMQ_PORT"), "{message}");
}

#[test]
fn addresses_that_kubernetes_sets_are_ignored() {
    let link = "tcp://10.96.0.7:5672";
    let config = Config::load(&environment(&[
        ("RABBITMQ_PORT", link),
        ("RABBITMQ_HOST", "broker"),
        ("SERVICE_PORT", "udp://[fd00::1]:8000"),
        ("RABBITMQ_PORT_5672_TCP", link),
        ("RABBITMQ_SERVICE_HOST", "10.96.0.7"),
    ]))
    .unwrap();
    let builtin = Config::builtin();
    assert_eq!(config.server.listen, builtin.server.listen);
    assert_eq!(config.events.rabbitmq.unwrap().port, builtin.described_broker().port);
    assert_eq!(config.notices.len(), 2, "{:?}", config.notices);
    assert!(config.notices.iter().any(|notice| notice.starts_with("RABBITMQ_PORT=tcp://10.96.0.7:5672 is an address")));
}

#[test]
fn the_switches_of_opentelemetry_follow_its_specification() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318/base");
    let whole = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/traces");
    let ca_file = ("DATS__TELEMETRY__CA_FILE", "/etc/ssl/own.pem");
    let traces = |variables: &[(&str, &str)]| {
        let Config { telemetry, notices, .. } = Config::load(&environment(variables)).unwrap();
        let url = telemetry.traces().map(|(address, path)| address.join(path));
        (url.unwrap_or_default(), notices.len())
    };
    let below = "https://collector:4318/base/v1/traces".to_owned();
    let to = |url: &str| (url.to_owned(), 0);
    assert_eq!(traces(&[]), to(""));
    assert_eq!(traces(&[endpoint]), to(&below));
    assert_eq!(traces(&[endpoint, whole]), to("https://other/traces"));
    assert_eq!(traces(&[whole, ca_file]), to("https://other/traces"));
    for off in [("OTEL_SDK_DISABLED", "True"), ("OTEL_TRACES_EXPORTER", "none")] {
        assert_eq!(traces(&[endpoint, whole, ca_file, off]), to(""), "{off:?}");
    }
    assert_eq!(traces(&[endpoint, ("OTEL_SDK_DISABLED", "false")]), to(&below));
    assert_eq!(traces(&[endpoint, ("OTEL_SDK_DISABLED", "yes")]), (below.clone(), 1));
    assert_eq!(traces(&[("OTEL_TRACES_EXPORTER", "otlp")]), to("http://localhost:4318/v1/traces"));
    assert_eq!(traces(&[endpoint, ("OTEL_TRACES_EXPORTER", "otlp, console")]), (below, 1));
}

#[test]
fn defaults_that_name_other_tiers_are_dropped() {
    let sources = environment(&[("DATS__ROUTING__TIERS", "[local, small]"), ("DATS__ROUTING__DEFAULT_TIER", "local")]);
    let config = Config::load(&sources).unwrap();
    assert!(config.task_management.escalate_to.is_empty());
    let (domain, tier) = config.routing.router.route("Write ESP32 firmware");
    assert_eq!((domain.as_str(), tier.as_str()), ("code-embedded", "local"));
}

#[test]
fn a_file_that_is_not_yaml_names_its_line() {
    with_file("server:\n  listen: [1\n", |sources| {
        let message = refusal(sources);
        assert!(message.contains("is not valid YAML"), "{message}");
    });
    with_file("server:\n  listen: localhost:1\n  listen: localhost:2\n", |sources| {
        let message = refusal(sources);
        assert!(message.contains(":3: is not valid YAML") && message.contains("listen"), "{message}");
    });
    let sources = Sources { file: Some("/nonexistent.yaml".into()), ..Sources::default() };
    assert!(refusal(&sources).starts_with("/nonexistent.yaml: can't be read"));
}

#[test]
fn an_empty_section_or_file_changes_nothing() {
    with_file("server:\n  # listen: 1\n", |sources| {
        assert_eq!(Config::load(sources).unwrap(), Config::builtin());
    });
    with_file("", |sources| assert_eq!(Config::load(sources).unwrap(), Config::builtin()));
}

#[test]
fn secrets_are_never_shown() {
    let sources =
        environment(&[("DATS__SECURITY__API_KEY", "hunter2"), ("DATS__EVENTS__RABBITMQ__PASSWORD", "hunter2")]);
    let password = ("DATS__EVENTS__RABBITMQ__PASSWORD", "hunter2\u{7}");
    let problems = refusal(&environment(&[password]));
    assert!(problems.contains("events.rabbitmq.password can't be ***"), "{problems}");
    let broker = [("RABBITMQ_HOST", "broker"), ("DATS__EVENTS__RABBITMQ__PASSWORD", "hunter2")];
    let config = Config::load(&environment(&[("DATS__SECURITY__API_KEY", "hunter2"), broker[0], broker[1]])).unwrap();
    assert_eq!(config.events.rabbitmq.as_ref().unwrap().credentials.password, "hunter2");
    assert!(!format!("{config:?}").contains("hunter2"));
    let yaml = show_yaml(&sources).unwrap();
    assert!(!yaml.contains("hunter2") && yaml.contains("api_key: \"***\""), "{yaml}");
    assert!(!show_json(&sources).unwrap().to_string().contains("hunter2"));

    let bad = environment(&[
        ("DATS__SECURITY__API_KEY", "hunter2\u{7}"),
        ("DATABASE_URL", "postgresql://dats:hunter2@postgres/dats"),
    ]);
    let message = refusal(&bad);
    assert!(message.contains("security.api_key can't be ***"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn shown_settings_load_to_the_same_settings() {
    let sources = environment(&[("DATS__ENGINE__QUEUE_CAPACITY", "77")]);
    let shown = show_yaml(&sources).unwrap();
    assert!(shown.contains("queue_capacity: 77  # environment variable DATS__ENGINE__"));
    with_file(&shown, |again| {
        assert_eq!(Config::load(again).unwrap(), Config::load(&sources).unwrap());
    });
}

#[test]
fn file_values_keep_their_type() {
    // A number in place of text may have lost its leading zeros.
    with_file("security:\n  api_key: 0123\n", |sources| {
        assert!(refusal(sources).contains("in quotes"));
    });
    with_file("server:\n  max_connections: \"5\"\n", |sources| {
        assert!(refusal(sources).contains("whole number"));
    });
    let tree = defaults();
    assert!(matches!(tree.at("events.bus").unwrap().value, Value::Null));
}

#[test]
fn the_broker_is_selected_by_its_host_or_by_name() {
    let bus = |values: &[(&str, &str)]| Config::load(&environment(values)).unwrap().events.rabbitmq;
    assert_eq!(bus(&[]), None);
    let host = ("RABBITMQ_HOST", "broker");
    let settings = bus(&[host, ("RABBITMQ_PORT", "5673")]).unwrap();
    assert_eq!((settings.host.as_str(), settings.port, settings.vhost.as_str()), ("broker", 5673, "/"));
    assert_eq!((settings.credentials.username.as_str(), settings.credentials.password.as_str()), ("guest", "guest"));
    assert!(!format!("{settings:?}").contains("password"), "{settings:?}");
    assert_eq!(bus(&[host, ("DATS__EVENTS__BUS", "rabbitmq")]).unwrap(), bus(&[host]).unwrap());
    assert_eq!(bus(&[host, ("DATS__EVENTS__BUS", "embedded")]), None);
    let message = refusal(&environment(&[("DATS__EVENTS__BUS", "rabbitmq")]));
    assert!(message.contains("embedded or null as long as events.rabbitmq.host is not set"), "{message}");
    for (key, value, expected) in [
        ("DATS__EVENTS__RABBITMQ__EXCHANGES", "[a, b]", "three names"),
        ("DATS__EVENTS__RABBITMQ__WORK_QUEUES__NAME", "work", "{tier} in it"),
        ("DATS__EVENTS__RABBITMQ__QUEUE_TYPE", "stream", "one of quorum, classic"),
        ("DATS__EVENTS__RABBITMQ__PREFETCH", "0", "from 1 to 65535"),
    ] {
        let message = refusal(&environment(&[(key, value)]));
        assert!(message.contains(expected), "{message}");
    }
}
