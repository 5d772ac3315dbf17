//! The dashboard and the alerts ask only for metrics that a running broker exports.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use lockstep::cluster::NewTopic;
use lockstep::config::Config;
use lockstep::server::Server;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every expression of the dashboard: those of the panels, and those that fill the variables.
fn dashboard_expressions() -> Vec<String> {
    fn collect(value: &Value, expressions: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value {
                        Value::String(text) if name == "expr" => expressions.push(text.clone()),
                        Value::String(text) if name == "definition" => expressions.push(text.clone()),
                        value => collect(value, expressions),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, expressions)),
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&read("grafana/dashboards/lockstep.json")).expect("JSON");
    let mut expressions = Vec::new();
    collect(&dashboard, &mut expressions);
    expressions
}

/// Every expression of the alerts; each stands in one line.
fn alert_expressions() -> Vec<String> {
    let alerts = read("grafana/prometheus/alerts.yaml");
    let expressions: Vec<String> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: ").map(str::to_owned)).collect();
    let alert_count = alerts.lines().filter(|line| line.trim().starts_with("- alert: ")).count();
    assert_eq!(expressions.len(), alert_count, "each alert has its expression in one line");
    expressions
}

/// Words of the query language that stand where a metric's name could.
const KEYWORDS: [&str; 8] = ["and", "or", "unless", "bool", "offset", "by", "without", "on"];
/// What a scrape adds by itself.
const OF_PROMETHEUS: [&str; 1] = ["up"];

/// The names of the series an expression reads: every word that is not a function, a keyword, a label or a number.
fn series_of(expression: &str) -> BTreeSet<String> {
    let code = without_labels(expression);
    let mut names = BTreeSet::new();
    let mut rest = code.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        let word_length = rest[start..]
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '.')
            .unwrap_or(rest.len() - start);
        let (word, after) = rest[start..].split_at(word_length);
        let is_function = after.trim_start().starts_with('(');
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        if !is_function && !is_number && !KEYWORDS.contains(&word) {
            names.insert(word.to_owned());
        }
        rest = after;
    }
    names
}

/// The expression without `{…}`, `[…]`, the lists of `by (…)`, and the label of `label_values(…, label)`.
fn without_labels(expression: &str) -> String {
    let mut code = expression.to_owned();
    if let Some((query, label)) = code.rsplit_once(',')
        && query.starts_with("label_values(")
        && label.ends_with(')')
    {
        code = query.to_owned();
    }
    for (open, close) in [("{", "}"), ("[", "]"), ("by (", ")")] {
        while let Some(start) = code.find(open) {
            let end =
                code[start..].find(close).unwrap_or_else(|| panic!("{open} is not closed: {expression}"));
            code.replace_range(start..=start + end, " ");
        }
    }
    code
}

/// What the expressions read and nobody exports.
fn missing(expressions: &[String], exported: &BTreeSet<String>) -> BTreeSet<String> {
    let read: BTreeSet<String> = expressions.iter().flat_map(|expression| series_of(expression)).collect();
    read.into_iter()
        .filter(|name| !exported.contains(name) && !OF_PROMETHEUS.contains(&name.as_str()))
        .collect()
}

/// The names of all series that a broker with one topic exports, those per partition included.
async fn exported_series() -> BTreeSet<String> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut config = Config { data: directory.path().join("data"), ..Config::default() };
    for address in [&mut config.listen.native, &mut config.listen.peer, &mut config.listen.http] {
        *address = "127.0.0.1:0".into();
    }
    let server = Server::start(config).await.expect("a broker by itself starts");
    let mut metadata = server.broker().cluster().metadata().watch();
    metadata.wait_for(|view| view.is_leader).await.expect("a broker by itself elects itself");
    let topic = NewTopic { name: "orders".into(), partitions: 1, replication: 1, ..NewTopic::default() };
    server.broker().create_topic(&topic, Duration::from_secs(30)).await.expect("the topic is created");
    let text = scrape(&server.addresses().http.to_string()).await;
    server.stop().await;
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned()).collect()
}

/// The body of a scrape.
async fn scrape(address: &str) -> String {
    let mut socket = TcpStream::connect(address).await.expect("the admin interface accepts");
    let request =
        format!("GET /metrics?partitions=true HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("the request is taken");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.expect("the answer is text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("the answer has a body");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body.to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_names_a_metric_a_live_broker_exports() {
    let exported = exported_series().await;
    let (panels, alerts) = (dashboard_expressions(), alert_expressions());
    assert!(panels.len() > 50, "only {} expressions were found in the dashboard", panels.len());
    assert!(alerts.len() >= 5, "only {} alerts were found", alerts.len());
    assert_eq!(missing(&panels, &exported), BTreeSet::new(), "the dashboard asks for what nobody exports");
    assert_eq!(missing(&alerts, &exported), BTreeSet::new(), "the alerts ask for what nobody exports");

    let planted =
        ["sum by (le) (rate(lockstep_produce_batchs_total{topic=~\"$topic\"}[5m])) / up".to_owned()];
    assert_eq!(missing(&planted, &exported), BTreeSet::from(["lockstep_produce_batchs_total".to_owned()]));
}

#[test]
fn the_names_of_series_are_told_from_functions_labels_and_numbers() {
    let expression = "histogram_quantile(0.99, sum by (le) (rate(a_bucket{x=~\"b|c\"}[5m]))) > 4 * 3600 or d";
    assert_eq!(series_of(expression), BTreeSet::from(["a_bucket".to_owned(), "d".to_owned()]));
    assert_eq!(series_of("label_values(a, instance)"), BTreeSet::from(["a".to_owned()]));
    assert_eq!(series_of("time() - a{}"), BTreeSet::from(["a".to_owned()]));
}

#[test]
fn panels_have_ids_of_their_own_and_say_what_they_show() {
    let dashboard: Value = serde_json::from_str(&read("grafana/dashboards/lockstep.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", panel["title"]);
    }
}
