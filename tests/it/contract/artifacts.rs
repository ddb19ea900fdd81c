//! Artifacts: what is known of them, their contents in rows and in files, and
//! what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::transcript::Transcript;
use super::{event, served};
use crate::support::client::{Answer, Client};
use crate::support::process::{self, Setup};

fn sha256(text: &str) -> String {
    dats::task::hex(Sha256::digest(text))
}

/// Larger than a row of the store.
fn large(word: &str) -> String {
    (0..20_000).fold(String::new(), |text, line| text + word + " " + &line.to_string() + "\n")
}

async fn task(client: &Client) -> String {
    let body = json!({"description": "x", "project_id": "p", "options": {"tier": "small", "qa_profile": "none"}});
    client.submit(&body).await
}

/// Posts an output of a new task, under an id of its own.
async fn post(client: &Client, artifact: &str, output: Value) -> Answer {
    let task = task(client).await;
    let data = json!({"task_id": task, "artifact_id": artifact, "output": output});
    client.post("events", &event(&format!("of {task}"), "task.output.created", &data)).await
}

fn files(data: &Path) -> Vec<PathBuf> {
    let list = |dir: &Path| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = list(&data.join("contents")).flat_map(|dir| list(&dir).collect::<Vec<_>>()).collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_is_known_of_an_artifact() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    let first = json!({"content": "print(1)\n", "artifacts": [
        {"id": "a", "type": "code", "path": "src/one.py", "checksum": format!("sha256:{}", sha256("print(1)\n")), "size_bytes": 9},
        {"id": "b", "type": "document", "language": "markdown", "content": "# b\n"},
        {"id": "c", "type": "config", "location": "s3://bucket/c.yaml", "checksum": "md5:1"},
    ]});
    assert_eq!(post(&client, "a", first).await.json()["outcome"], "applied");
    transcript.get("artifacts/a").await;
    transcript.ask("GET", "artifacts/a/content", &[], "").await;
    transcript.ask("HEAD", "artifacts/b/content", &[], "").await;
    transcript.get("artifacts/c").await;
    transcript.get("artifacts/c/content").await;
    let second = json!({"content": "print(2)\n", "artifacts": [{"id": "a", "language": "Python"}]});
    assert_eq!(post(&client, "a", second).await.json()["outcome"], "applied");
    client.post("provenance/a/taint", &json!({"reason": "wrong"})).await;
    let known = transcript.get("artifacts/a?limit=1").await;
    let next = format!("artifacts/a?limit=1&cursor={}", known["next_cursor"].as_str().unwrap());
    let older = client.get(&next).await.json();
    assert_eq!((older["records"].as_array().unwrap().len(), &older["next_cursor"]), (1, &Value::Null));
    let older = older["records"][0]["provenance_id"].as_str().unwrap();
    assert_eq!(client.get("artifacts/a/content").await.body, "print(2)\n");
    assert_eq!(client.get(&format!("artifacts/a/content?provenance_id={older}")).await.body, "print(1)\n");
    let tag = client.get("artifacts/a").await.header("etag").to_owned();
    assert_eq!(client.ask("GET", "artifacts/a", &[("if-none-match", &tag)], "").await.unwrap().status, 304);
    for path in
        ["artifacts/none", "artifacts/%01", "artifacts/a?limit=0&cursor=x", "artifacts/a/content?provenance_id=x"]
    {
        transcript.get(path).await;
    }
    transcript.ask("DELETE", "artifacts/a", &[], "").await;
    insta::assert_snapshot!(transcript.text());
}

#[tokio::test]
async fn a_wrong_checksum_is_refused() {
    let (_server, client) = served();
    let mut transcript = Transcript::new(&client);
    let task = task(&client).await;
    let wrong = sha256("other");
    for output in [
        json!({"content": "x", "artifacts": [{"id": "a", "checksum": wrong}]}),
        json!({"artifacts": [{"id": "b", "checksum": format!("sha256:{wrong}"), "content": "x"}]}),
        json!({"content": "x", "artifacts": [{"id": "a", "content": "y"}]}),
    ] {
        let data = json!({"task_id": task, "artifact_id": "a", "output": output});
        transcript.post("events", &event("1", "task.output.created", &data)).await;
    }
    // A refused event leaves no id behind: the right one may come under it.
    let data = json!({"task_id": task, "artifact_id": "a", "output": {"content": "other", "artifacts": [
        {"id": "a", "checksum": wrong.to_uppercase()}, {"id": "b", "checksum": "v7", "content": "x"},
    ]}});
    let answer = transcript.post("events", &event("1", "task.output.created", &data)).await;
    assert_eq!(answer["outcome"], "applied");
    insta::assert_snapshot!(transcript.text());
}

#[tokio::test]
async fn large_contents_are_files() {
    let setup = Setup::new();
    let mut server = setup.start();
    let mut client = Client::new(&server.address);
    let text = large("line");
    let output = json!({"content": text, "artifacts": [{"id": "a", "path": "big.md", "checksum": sha256(&text)}]});
    assert_eq!(post(&client, "a", output).await.json()["outcome"], "applied");
    let hash = sha256(&text);
    let file = setup.data_dir().join("contents").join(&hash[..2]).join(&hash[2..]);
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    for round in 0..2 {
        let whole = client.get("artifacts/a/content").await;
        assert!(whole.status == 200 && whole.body == text, "{}", whole.status);
        let tag = format!("\"{hash}\"");
        assert_eq!((whole.header("etag"), whole.header("content-type")), (&tag[..], "text/markdown; charset=utf-8"));
        assert_eq!(whole.header("x-content-type-options"), "nosniff");
        let known = client.get("artifacts/a").await.json();
        let content = json!({
            "href": "/api/v1/artifacts/a/content", "media_type": "text/markdown; charset=utf-8",
            "size_bytes": text.len(), "sha256": hash,
        });
        assert_eq!(known["content"], content);
        parts(&client, &text, &tag).await;
        if round == 0 {
            server.kill();
            server = setup.start();
            client = Client::new(&server.address);
        }
    }
}

/// Ranges of the content, and questions about it.
async fn parts(client: &Client, text: &str, tag: &str) {
    let ask = async |method: &str, headers: &[(&str, &str)]| {
        client.ask(method, "artifacts/a/content", headers, "").await.unwrap()
    };
    let length = text.len();
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=65530-65545", 65_530, 65_546),
        ("bytes=100000-", 100_000, length),
        ("bytes=-7", length - 7, length),
    ] {
        let part = ask("GET", &[("range", range), ("if-range", tag)]).await;
        assert_eq!((part.status, &part.body[..]), (206, &text.as_bytes()[from..to]), "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{length}", to - 1));
    }
    let other = ask("GET", &[("range", "bytes=0-0"), ("if-range", "\"other\"")]).await;
    assert_eq!((other.status, other.body.len()), (200, length));
    let beyond = ask("GET", &[("range", "bytes=9999999-")]).await;
    assert_eq!((beyond.status, beyond.code().as_str()), (416, "range_not_satisfiable"));
    assert_eq!(beyond.header("content-range"), format!("bytes */{length}"));
    assert_eq!(ask("GET", &[("if-none-match", tag)]).await.status, 304);
    let head = ask("HEAD", &[]).await;
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, &length.to_string()[..]));
}

#[tokio::test]
async fn a_damaged_file_is_named_and_healed() {
    let setup = Setup::new();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let text = large("damage");
    let output = json!({"content": text});
    post(&client, "a", output.clone()).await;
    let [file] = &files(&setup.data_dir())[..] else { panic!("one file") };
    let mut bytes = text.clone().into_bytes();
    bytes[70_000] ^= 1;
    for (bytes, says) in [(Some(bytes), "hashes to"), (Some(b"cut".to_vec()), "it has 3 bytes"), (None, "is missing")] {
        match bytes {
            Some(bytes) => fs::write(file, bytes).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        let answer = client.get("artifacts/a/content").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "content_damaged"), "{answer:?}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        let hash = sha256(&text);
        assert!(
            detail.contains(&format!("contents/{}/{}", &hash[..2], &hash[2..])) && detail.contains(says),
            "{detail}"
        );
    }
    // The row may be in the journal alone, or in the tables: both are checked.
    let data = setup.data_dir();
    for clean in [false, true] {
        if clean {
            server = setup.start();
            server.signal("TERM");
            server.wait(std::time::Duration::from_secs(30));
        } else {
            server.kill();
        }
        let verified = process::run("", &[], &["verify", "--data-dir", data.to_str().unwrap()]);
        assert_eq!(verified.code, 4, "{}", verified.stdout);
        assert!(verified.stderr.contains("is damaged: it is missing"), "{}", verified.stderr);
    }
    // The same content from another output brings the file back.
    let server = setup.start();
    let client = Client::new(&server.address);
    post(&client, "again", output).await;
    assert!(client.get("artifacts/a/content").await.body == text);
    drop(server);
    assert_eq!(process::run("", &[], &["verify", "--data-dir", data.to_str().unwrap()]).code, 0);
}

#[tokio::test]
async fn files_that_nobody_names_go() {
    let setup = Setup::new();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    let data = setup.data_dir();
    // Refused: there is no such attempt. The next content takes the file away.
    let of = task(&client).await;
    let output = json!({"content": large("refused")});
    let refused = json!({"task_id": of, "artifact_id": "r", "attempt": 9, "output": output});
    assert_eq!(client.post("events", &event("r", "task.output.created", &refused)).await.status, 409);
    let kept = large("kept");
    assert_eq!(post(&client, "a", json!({"content": kept})).await.status, 200);
    let [file] = &files(&data)[..] else { panic!("{:?}", files(&data)) };
    assert_eq!(fs::read_to_string(file).unwrap(), kept);
    // What a crash can leave.
    let orphans = ["0".repeat(62), format!("{}.7.new", "1".repeat(62))].map(|name| data.join("contents/ab").join(name));
    let leave = || {
        fs::create_dir_all(data.join("contents/ab")).unwrap();
        for orphan in &orphans {
            fs::write(orphan, "left").unwrap();
        }
    };
    server.kill();
    leave();
    let mut server = setup.start();
    let client = Client::new(&server.address);
    while orphans.iter().any(|orphan| orphan.exists()) {
        assert!(server.is_running());
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(client.get("artifacts/a/content").await.body == kept);
    drop(server);
    leave();
    let pruned = process::run("", &[], &["prune", "--data-dir", data.to_str().unwrap()]);
    assert!(pruned.stdout.contains("2 contents without a record"), "{} {}", pruned.stdout, pruned.stderr);
    assert_eq!(files(&data), std::slice::from_ref(file));
}

/// The same content at once, refused by some and taken by others, again and
/// again: what was taken is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_content_from_many_at_once() {
    let server = Setup::new().with("DATS__TASK_MANAGEMENT__MAX_CONCURRENT_PER_PROJECT", "1000").start();
    let client = Client::new(&server.address);
    for round in 0..12 {
        let text = large(&format!("round {round}"));
        let mut posts = tokio::task::JoinSet::new();
        for each in 0..6 {
            let (client, text) = (client.clone(), text.clone());
            posts.spawn(async move {
                if each % 2 == 0 {
                    let taken = post(&client, &format!("a-{round}-{each}"), json!({"content": text})).await;
                    assert_eq!(taken.status, 200, "{taken:?}");
                } else {
                    let of = task(&client).await;
                    let data = json!({"task_id": of, "artifact_id": "r", "attempt": 9, "output": {"content": text}});
                    let refused = client.post("events", &event(&of, "task.output.created", &data)).await;
                    assert_eq!(refused.status, 409, "{refused:?}");
                }
            });
        }
        while let Some(ended) = posts.join_next().await {
            ended.unwrap();
        }
    }
    for round in 0..12 {
        let answer = client.get(&format!("artifacts/a-{round}-0/content")).await;
        assert!(answer.body == large(&format!("round {round}")), "round {round}");
    }
}
