//! `/beers`, `/seed` and `/beers/seed`.

use std::thread;

use serde_json::json;

use crate::postgres::Server;
use crate::program::Program;

#[test]
fn beers_stored_then_listed() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    assert_eq!(program.get("/beers").body, "[]");

    let stored = [
        (
            r#"{"name":"Yebisu","style":"Premium Lager","abv":5.5}"#,
            r#"{"id":1,"name":"Yebisu","style":"Premium Lager","abv":5.5}"#,
        ),
        (
            r#"{"name":"Sapporo","abv":"5.0%","brewery":"x"}"#,
            r#"{"id":2,"name":"Sapporo","style":null,"abv":5.0}"#,
        ),
        (
            r#"{"name":"Kirin","style":null,"abv":"5"}"#,
            r#"{"id":3,"name":"Kirin","style":null,"abv":5.0}"#,
        ),
        (
            r#"{"name":"Asahi","style":"","abv":4.567}"#,
            r#"{"id":4,"name":"Asahi","style":"","abv":4.57}"#,
        ),
        (
            r#"{"name":"Water"}"#,
            r#"{"id":5,"name":"Water","style":null,"abv":null}"#,
        ),
    ];
    for (body, expected) in stored {
        let answer = program.post("/beers", body);
        assert_eq!((answer.status, answer.body.as_str()), (201, expected));
    }
    let all = stored.map(|(_body, expected)| expected).join(",");
    assert_eq!(program.get("/beers").body, format!("[{all}]"));
}

#[test]
fn seeded_repeatedly_and_concurrently_then_each_beer_once() {
    let server = Server::primary();
    let program = Program::before(&[&server], &[]);
    let by_hand = program.post("/beers", r#"{"name":"Yebisu"}"#);
    assert_eq!(by_hand.status, 201);

    thread::scope(|scope| {
        for number in 0..8 {
            let path = ["/seed", "/beers/seed"][number % 2];
            let program = &program;
            scope.spawn(move || {
                let answer = program.request("POST", path, &[], "");
                assert_eq!(answer.status, 200, "{answer:?}");
                assert!(answer.json()["message"].is_string());
            });
        }
    });

    let beers = server.sql("SELECT name, style, abv FROM beers ORDER BY name");
    assert_eq!(
        beers,
        "Asahi Super Dry|Dry Lager|5.20\nKirin Ichiban|Pale Lager|5.00\n\
         Sapporo Premium|Lager|5.00\nYebisu||"
    );
    let again = program.post("/seed", "{}");
    assert_eq!(again.json()["inserted"], json!([]));

    server.sql("DELETE FROM beers WHERE name <> 'Kirin Ichiban'");
    let inserted = program.post("/seed", "").json()["inserted"].clone();
    let inserted: Vec<&str> = inserted
        .as_array()
        .unwrap()
        .iter()
        .map(|beer| beer["name"].as_str().unwrap())
        .collect();
    assert_eq!(inserted, ["Sapporo Premium", "Yebisu", "Asahi Super Dry"]);
}

#[test]
fn field_invalid_then_rejected() {
    let program = Program::without_database(&[]);
    let broken = |body: &str| {
        let answer = program.post("/beers", body);
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        answer.broken()
    };

    assert_eq!(broken("{}"), "name: required");
    let all = broken(r#"{"name":"","style":1,"abv":"strong"}"#);
    assert_eq!(all, "name: blank, style: not-a-string, abv: not-a-number");
    for abv in ["-0.1", "100.01", "\"100.01%\"", "\"-1\"", "1e300"] {
        assert_eq!(
            broken(&format!("{{\"name\":\"a\",\"abv\":{abv}}}")),
            "abv: out-of-range"
        );
    }
    let texts = "% strong NaN inf 5e0 5,0 .5 5. 5%% ٥ +5".split(' ');
    let texts = texts.chain([""]).map(|text| format!("\"{text}\""));
    for abv in texts.chain(["true", "[5]", "{}"].map(str::to_owned)) {
        assert_eq!(
            broken(&format!("{{\"name\":\"a\",\"abv\":{abv}}}")),
            "abv: not-a-number"
        );
    }
    let long = json!({"name": "a".repeat(256), "style": "ä".repeat(256)});
    assert_eq!(broken(&long.to_string()), "name: too-long, style: too-long");
    assert_eq!(
        broken(r#"{"name":"a\u0000","style":"\u0000"}"#),
        "name: nul, style: nul"
    );
    assert_eq!(broken("\"beer\""), "body: not-an-object");
    // Valid requests need the database.
    for abv in ["0", "100", "5e0", "\" 5.0 % \""] {
        let body = format!("{{\"name\":\"a\",\"abv\":{abv}}}");
        assert_eq!(program.post("/beers", &body).status, 503, "{abv}");
    }

    let program = Program::without_database(&[("VALIDATION_STATUS", "422")]);
    assert_eq!(program.post("/beers", "{}").status, 422);
}
