// The gallery's JavaScript. Names that are not defined, and types, are the business of `tsc`.

import js from "@eslint/js";

const AS_MARKUP = "names come from strangers: set text, never markup";

export default [
  { ignores: ["**/*", "!src/", "!src/stillroom/", "!src/stillroom/features/", "!src/stillroom/features/gallery/", "!src/stillroom/features/gallery/static/", "!src/stillroom/features/gallery/static/*.js", "!integrations/", "!integrations/comfyui/", "!integrations/comfyui/web/", "!integrations/comfyui/web/*.js"] },
  js.configs.recommended,
  {
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "array-callback-return": "error",
      eqeqeq: "error",
      "max-lines": ["error", { max: 300 }],
      "no-alert": "error",
      "no-console": "error",
      "no-eval": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-restricted-properties": [
        "error",
        ...["innerHTML", "outerHTML", "insertAdjacentHTML", "setHTMLUnsafe"].map((property) => ({ property, message: AS_MARKUP })),
      ],
      "no-restricted-syntax": [
        "error",
        {
          selector: "Program > VariableDeclaration[kind='let'], Program > ExportNamedDeclaration > VariableDeclaration[kind='let']",
          message: "state belongs in an object, not in a module",
        },
      ],
      "no-shadow": "error",
      "no-undef": "off",
      "no-unused-expressions": "error",
      "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "no-use-before-define": ["error", { functions: false, variables: false, classes: false }],
      "no-var": "error",
      "object-shorthand": "error",
      "prefer-const": "error",
      "prefer-template": "error",
    },
  },
  { files: ["**/theme.js"], languageOptions: { sourceType: "script" } },
];
