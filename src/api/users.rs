//! Who somebody is, and their sessions.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Deserialize;
use uuid::Uuid;

use super::{Client, Error, Token, types::null_is_empty};

/// A user.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// Its id.
    pub id: Uuid,
    /// Its name. Not to be printed unescaped.
    pub username: String,
    /// The organizations it is in.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub organization_ids: Vec<Uuid>,
    /// What it may do in the whole deployment, besides what every member may.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub roles: Vec<Role>,
}

/// A role of a user.
#[derive(Debug, Clone, Deserialize)]
pub struct Role {
    /// Its name. Not to be printed unescaped.
    pub name: String,
}

impl Client {
    /// Whether the deployment has its first user (`GET /users/first`): `false` for a fresh one.
    ///
    /// # Errors
    /// [`Error::NotCoder`] for what is no deployment.
    pub async fn has_first_user(&self) -> Result<bool, Error> {
        match self.get::<serde_json::Value>("/users/first", &[]).await {
            Ok(_) => Ok(true),
            // Others know no such path either: a fresh deployment can say what it is.
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => {
                self.build_info().await.map(|_| false).map_err(|_| Error::NotCoder {
                    host: self.host(),
                    why: "it knows neither users nor its own version".to_owned(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Who the token belongs to.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn me(&self) -> Result<User, Error> {
        self.get("/users/me", &[]).await
    }

    /// Makes a session key with the token (`POST /users/me/keys`).
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create_key(&self) -> Result<Token, Error> {
        #[derive(Deserialize)]
        struct Answer {
            key: Token,
        }
        let answer: Answer = self.post("/users/me/keys", &serde_json::json!({})).await?;
        Ok(answer.key)
    }

    /// Ends the session whose token this client has (`POST /users/logout`).
    ///
    /// # Errors
    /// 401 for one that has ended already; see [`Error`].
    pub async fn log_out(&self) -> Result<(), Error> {
        self.send(Method::POST, "/users/logout", Bytes::new()).await.map(drop)
    }
}
