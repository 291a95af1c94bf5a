//! Finds the call for a method and a path, and the methods that a path takes.

use http::Method;

use crate::command::IdempotencyPolicy;

/// One line of a listener's table of calls. Every call names its idempotency policy.
#[derive(Clone, Debug)]
pub struct Route<C> {
    /// The method.
    pub method: Method,
    /// The path, with at most one `{variable}`.
    pub path: &'static str,
    /// The call.
    pub call: C,
    /// Why a repeat does no harm.
    pub policy: IdempotencyPolicy,
}

/// The calls of one listener by path and method.
pub struct Router<C> {
    paths: matchit::Router<Vec<(Method, C)>>,
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub enum RouteMatch<'p, C> {
    /// A call, with the variable part of its path.
    Call(C, Option<&'p str>),
    /// A path that takes other methods only: these, as the `Allow` header lists them.
    OtherMethods(String),
    /// Nothing.
    Nothing,
}

impl<C> Route<C> {
    /// A line of the table.
    pub const fn new(method: Method, path: &'static str, call: C, policy: IdempotencyPolicy) -> Self {
        Route { method, path, call, policy }
    }

    /// Whether the policy fits the method: GET reads, and nothing else does.
    pub fn is_sound(&self) -> bool {
        (self.method == Method::GET) == (self.policy == IdempotencyPolicy::Read)
    }
}

impl<C: Copy> Router<C> {
    /// Builds the router of a table whose paths have at most one `{variable}`; fails if the table has a path that cannot be
    /// matched.
    pub fn new(table: &[Route<C>]) -> Result<Self, matchit::InsertError> {
        let mut paths: matchit::Router<Vec<(Method, C)>> = matchit::Router::new();
        let mut seen: Vec<&str> = Vec::new();
        for Route { path, .. } in table {
            if !seen.contains(path) {
                seen.push(path);
                let calls = table.iter().filter(|other| other.path == *path);
                paths.insert(*path, calls.map(|route| (route.method.clone(), route.call)).collect())?;
            }
        }
        Ok(Router { paths })
    }

    /// Finds a call. `HEAD` is answered as `GET`, and the connection leaves the body out.
    pub fn find<'p>(&self, method: &Method, path: &'p str) -> RouteMatch<'p, C> {
        let Ok(found) = self.paths.at(path) else { return RouteMatch::Nothing };
        let wanted = if method == Method::HEAD { &Method::GET } else { method };
        match found.value.iter().find(|(method, _)| method == wanted) {
            Some((_, call)) => RouteMatch::Call(*call, found.params.iter().next().map(|(_, value)| value)),
            None => RouteMatch::OtherMethods(allow(found.value.iter().map(|(method, _)| method))),
        }
    }
}

/// The path of a request, with every percent-encoded unreserved character as itself: both are one path (RFC 3986, section
/// 6.2.2.2). Everything else stays as it was sent.
pub fn plain_path(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let digits = after.get(..2).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match byte.filter(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(byte)) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                plain.push('%');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn allow<'m>(methods: impl Iterator<Item = &'m Method>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for method in methods {
        names.push(method.as_str());
        if method == Method::GET {
            names.push("HEAD");
        }
    }
    names.sort_unstable();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_need_not_be_encoded_is_decoded_and_nothing_else() {
        let table = [
            ("/v1/sales/%68", "/v1/sales/h"),
            ("/%761/%73ales/a%2Db%2e%5F%7E%30", "/v1/sales/a-b._~0"),
            ("/a%2Fb%20%25%3f%C3%A9", "/a%2Fb%20%25%3f%C3%A9"),
            // Once: what comes out is not read again.
            ("/%2568%25%36%38", "/%2568%2568"),
            ("/%", "/%"),
            ("/%6", "/%6"),
            ("/%+8/%zz/%%68", "/%+8/%zz/%h"),
            ("/é%68%é", "/éh%é"),
        ];
        for (sent, plain) in table {
            assert_eq!(plain_path(sent), plain, "{sent}");
        }
    }

    #[test]
    fn a_path_is_a_call_other_methods_or_nothing() {
        let table = [
            Route::new(Method::GET, "/orders", 1, IdempotencyPolicy::Read),
            Route::new(Method::POST, "/orders", 2, IdempotencyPolicy::DerivedId),
            Route::new(Method::GET, "/orders/{no}", 3, IdempotencyPolicy::Read),
        ];
        let router = Router::new(&table).unwrap();
        assert_eq!(router.find(&Method::GET, "/orders"), RouteMatch::Call(1, None));
        assert_eq!(router.find(&Method::HEAD, "/orders"), RouteMatch::Call(1, None));
        assert_eq!(router.find(&Method::POST, "/orders"), RouteMatch::Call(2, None));
        assert_eq!(router.find(&Method::GET, "/orders/7"), RouteMatch::Call(3, Some("7")));
        assert_eq!(router.find(&Method::PUT, "/orders"), RouteMatch::OtherMethods("GET, HEAD, POST".to_owned()));
        assert_eq!(router.find(&Method::PUT, "/orders/7"), RouteMatch::OtherMethods("GET, HEAD".to_owned()));
        for path in ["/", "/orders/", "/orders/7/8", "/ORDERS", ""] {
            assert_eq!(router.find(&Method::GET, path), RouteMatch::Nothing, "{path}");
        }
    }
}
