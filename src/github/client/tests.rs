use super::*;
use crate::github::Token;
use awc::http::header::{HeaderName, HeaderValue};

fn next(root: &str, link: &str) -> Option<String> {
    let github = Github::new(root.to_owned(), Auth::Token(Token::new("hush").unwrap())).unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static("link"), HeaderValue::from_str(link).unwrap());
    github.next(&headers)
}

#[actix_web::test]
async fn a_next_page_is_a_path_below_the_root_whatever_its_host() {
    let root = "https://ghe.example.com/api/v3";
    let page = "/repos/a/b/hooks/1/deliveries?per_page=100&cursor=v1_17";
    let both = |base: &str| format!("<{base}/x?page=1>; rel=\"first\", <{base}{page}>; rel=\"next\"");
    for base in [root, "https://elsewhere.example.com/api/v3", "https://api.github.com"] {
        assert_eq!(next(root, &both(base)).as_deref(), Some(page), "{base}");
    }
    assert_eq!(next("https://api.github.com", &both("https://api.github.com")).as_deref(), Some(page));
    for odd in ["<nothing>; rel=\"next\"", "rel=\"next\"", "<https://x/y>; rel=\"prev\""] {
        assert_eq!(next(root, odd), None, "{odd}");
    }
}

#[test]
fn what_github_says_is_told_in_one_line_and_without_the_token() {
    let body = r#"{"message": "Validation Failed", "errors": [{"message": "Hook already exists"}, "and more"]}"#;
    assert_eq!(message(body.as_bytes()), "Validation Failed: Hook already exists: and more");
    assert_eq!((message(b"<html>"), message(b"[1]"), message(b"{}")), (String::new(), String::new(), String::new()));
    assert_eq!(told(401, "Bad\ncredentials: hush", "hush"), r"401 Bad\ncredentials: (the token)");
    assert_eq!(told(502, "", "hush"), "502");
    assert_eq!(told(403, &"x".repeat(999), "hush").len(), 4 + MESSAGE_MAX_CHARS);
}

#[test]
fn limits_are_told_with_the_time_of_their_reset() {
    let of = |headers: &[(&str, &'static str)]| {
        limits(|name| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
    };
    let all = [("x-ratelimit-limit", "5000"), ("x-ratelimit-remaining", "4986"), ("x-ratelimit-reset", "1772471647")];
    assert_eq!(of(&all).unwrap().to_string(), "4986 of 5000 requests left until 17:14:07 UTC");
    assert_eq!(of(&all[..2]), None);
}
