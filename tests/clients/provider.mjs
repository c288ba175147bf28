// What an application brings to either generation of the official client: what it is called, where it is sent back to,
// and where it keeps what it was given.
export class Provider {
  #kept = {};

  // document: the address of a client metadata document, where the application has one. Otherwise it registers itself.
  constructor(redirectUrl, document) {
    this.redirectUrl = redirectUrl;
    this.clientMetadataUrl = document;
  }

  get clientMetadata() {
    return {
      client_name: 'Official client',
      redirect_uris: [this.redirectUrl],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
      application_type: 'native',
    };
  }

  state() {
    this.#kept.state = crypto.randomUUID();
    return this.#kept.state;
  }

  clientInformation() { return this.#kept.client; }
  saveClientInformation(client) { this.#kept.client = client; }
  tokens() { return this.#kept.tokens; }
  saveTokens(tokens) { this.#kept.tokens = tokens; }
  codeVerifier() { return this.#kept.verifier; }
  saveCodeVerifier(verifier) { this.#kept.verifier = verifier; }
  discoveryState() { return this.#kept.discovery; }
  saveDiscoveryState(discovery) { this.#kept.discovery = discovery; }
  redirectToAuthorization(url) { this.#kept.authorize = String(url); }

  invalidateCredentials(what) {
    const members = { all: ['client', 'tokens', 'verifier', 'discovery'] }[what] ?? [what];
    for (const member of members) delete this.#kept[member];
  }

  // Where the browser is to be sent; once.
  takeAuthorizationUrl() {
    const { authorize } = this.#kept;
    delete this.#kept.authorize;
    return authorize;
  }

  kept() { return this.#kept; }
}
