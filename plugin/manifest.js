'use strict';

/* What `paperclip-sandbox-worker manifest` prints, written here when the package is packed. */
module.exports = require('./manifest.json');
