import { defineConfig } from "vite";

// The names are fixed, for the templates name them; the version stands behind a "?" there.
export default defineConfig({
  publicDir: false,
  build: {
    outDir: "../src/forestall/service/web/static",
    emptyOutDir: true,
    target: "es2022",
    cssCodeSplit: false,
    rollupOptions: {
      input: { pages: "src/pages.ts", theme: "src/theme.ts" },
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: "[name].js",
        assetFileNames: "pages[extname]",
      },
    },
  },
});
