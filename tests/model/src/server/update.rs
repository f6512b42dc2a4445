//! Updates of one document: by operators, or by stages of a pipeline.

use bson::{Bson, Document};

use super::expression::{Fails, Server};
use super::filter::matches;

/// One statement of an `update` command, decoded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statement {
    filter: Document,
    update: Bson,
    upsert: bool,
}

impl Statement {
    /// Reads a statement of the product.
    pub(crate) fn of(statement: &stream_processor::inside::Statement) -> Self {
        let body = Document::try_from(statement.body.as_ref()).expect("a statement is a document");
        Self {
            filter: body.get_document("q").expect("q").clone(),
            update: body.get("u").expect("u").clone(),
            upsert: body.get_bool("upsert").unwrap_or_default(),
        }
    }

    /// The same statement with only these conditions in its filter.
    pub(crate) fn only_with(mut self, conditions: &[&str]) -> Self {
        self.filter = self.filter.into_iter().filter(|(name, _)| conditions.contains(&name.as_str())).collect();
        self
    }

    /// The same statement with only the condition on the label.
    pub(crate) fn only_with_label(mut self) -> Self {
        for condition in self.conditions().into_iter().flatten() {
            if !condition.to_string().contains("$partner_label") {
                *condition = true.into();
            }
        }
        self
    }

    /// The conditions under which the first stage keeps the `_id`; `None` in a statement without them.
    fn conditions(&mut self) -> Option<&mut Vec<Bson>> {
        let stage = self.update.as_array_mut()?.first_mut()?.as_document_mut()?;
        let id = stage.get_document_mut("$set").ok()?.get_document_mut("_id").ok()?;
        id.get_array_mut("$cond").ok()?.first_mut()?.as_document_mut()?.get_array_mut("$and").ok()
    }
}

/// Runs one statement. Returns the new document; `None` where nothing matched or the update failed.
pub(crate) fn run(server: &Server, statement: &Statement, document: Option<&Document>) -> Option<Document> {
    match document {
        Some(document) if matches(server, &statement.filter, document) => {
            update(server, &statement.update, document).ok()
        }
        None if statement.upsert => {
            let id = statement.filter.get("_id").expect("an upsert by _id").clone();
            let update = statement.update.as_document().expect("an upsert by operators");
            let mut document = Document::new();
            document.insert("_id", id);
            for operator in ["$set", "$setOnInsert"] {
                document.extend(update.get_document(operator).cloned().unwrap_or_default());
            }
            Some(document)
        }
        _ => None,
    }
}

/// Changes a document by the operators or by the stages of an update.
pub(crate) fn update(server: &Server, update: &Bson, document: &Document) -> Result<Document, Fails> {
    let mut changed = document.clone();
    match update {
        Bson::Document(operators) => {
            for (operator, fields) in operators {
                let fields = fields.as_document().expect("an operator has fields").clone();
                match operator.as_str() {
                    "$set" => changed.extend(fields),
                    "$setOnInsert" => {}
                    "$push" => push(&mut changed, fields),
                    other => panic!("the model of the server does not know {other} in an update"),
                }
            }
        }
        Bson::Array(stages) => {
            for stage in stages {
                let stage = stage.as_document().expect("a stage is an object");
                let set = stage.get_document("$set").expect("only $set stages");
                let before = changed.clone();
                for (name, value) in set {
                    match server.evaluate(value, &before)? {
                        Some(value) => changed.insert(name, value),
                        None => changed.remove(name),
                    };
                }
            }
        }
        other => panic!("no update: {other}"),
    }
    Ok(changed)
}

fn push(document: &mut Document, fields: Document) {
    for (name, item) in fields {
        match document.get_mut(&name) {
            Some(Bson::Array(items)) => items.push(item),
            _ => {
                document.insert(name, vec![item]);
            }
        }
    }
}
