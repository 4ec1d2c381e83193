//! `${NAME}` in an argument: the exec form of a command expands nothing, and scratch has no shell.

use settings::{non_empty, split_at_first};

use crate::options::Subject;
use crate::text::Text;

const FORMS: &str = "${NAME}, ${NAME:-default} or $$";

/// Appends `argument` to `text` with `${NAME}` replaced by the value of that variable, `${NAME:-DEFAULT}`
/// by DEFAULT where it has none, and `$$` by a dollar. What comes of it is not expanded again. An empty
/// variable is an unset one.
///
/// # Errors
///
/// What was expected instead. If that is a value, `subject` becomes the variable.
pub(crate) fn expand<'a>(
    text: &mut Text<'_>,
    argument: &'a [u8],
    variable: impl Fn(&[u8]) -> Option<&'a [u8]>,
    subject: &mut Subject<'a>,
) -> Result<(), &'static str> {
    let mut rest = argument;
    while let Some((before, after)) = split_at_first(rest, b'$') {
        text.push(before);
        rest = match after {
            [b'$', after @ ..] => {
                text.push(b"$");
                after
            }
            [b'{', after @ ..] => {
                let (inside, after) = split_at_first(after, b'}').ok_or(FORMS)?;
                let (name, default) = match split_at_first(inside, b':') {
                    Some((name, [b'-', default @ ..])) => (name, Some(default)),
                    Some(_) => return Err(FORMS),
                    None => (inside, None),
                };
                if name.is_empty() {
                    return Err(FORMS);
                }
                let Some(value) = non_empty(variable(name)).or(default) else {
                    (subject.name, subject.value) = (name, b"");
                    return Err("a value, or ${NAME:-default}");
                };
                text.push(value);
                after
            }
            _ => return Err(FORMS),
        };
    }
    text.push(rest);
    Ok(())
}
