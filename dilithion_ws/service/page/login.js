// Logging in and out. The dialog has the focus only when it opens, and is never cleared while the user types.
import { el } from './dom.js';
import { duration } from './format.js';

export class LoginDialog {
  #until = 0;

  /** @param onLogin is called with what the client takes: user and password, or a token. */
  constructor(onLogin) {
    el('credentials').onsubmit = (event) => {
      event.preventDefault();
      const token = el('token').value.trim();
      const login = token ? { token } : { user: el('user').value, password: el('password').value };
      el('reason').textContent = 'Logging in …';
      onLogin(login);
    };
    el('by-token').onchange = () => this.#choose();
    el('cancel').onclick = () => el('login').close();
    el('log-in').onclick = () => this.open('');
    this.#choose();
    setInterval(() => this.#count(), 1000);
  }

  #choose() {
    const byToken = el('by-token').checked;
    for (const [id, isUsed] of [['user', !byToken], ['password', !byToken], ['token', byToken]]) {
      el(id).parentElement.hidden = !isUsed;
      el(id).disabled = !isUsed;
      if (!isUsed) el(id).value = '';
    }
  }

  /** Ask for a login, with the reason why. */
  open(reason, error) {
    this.#until = error?.data?.retry_after_ms ? Date.now() + error.data.retry_after_ms : 0;
    el('reason').textContent = reason;
    el('wait').textContent = '';
    this.#count();
    el('log-in').hidden = false;
    el('log-out').hidden = true;
    if (el('login').open) return;
    el('login').showModal();
    (el('by-token').checked ? el('token') : el('user')).focus();
  }

  /** Say how long the server accepts no attempt. */
  #count() {
    if (!this.#until) return;
    const left = (this.#until - Date.now()) / 1000;
    if (left <= 0) this.#until = 0;
    el('wait').textContent = left > 0 ? `The server accepts none for ${duration(left)} more.` : 'You can try again now.';
  }

  /** The login was accepted, or none is needed. */
  done(user) {
    this.#until = 0;
    el('password').value = el('token').value = '';
    if (el('login').open) el('login').close();
    el('log-in').hidden = true;
    el('log-out').hidden = !user?.user;
    el('who').textContent = user?.user ? `${user.user} (${user.role})` : '';
  }
}
