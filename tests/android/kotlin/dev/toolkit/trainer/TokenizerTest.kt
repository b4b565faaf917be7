package dev.toolkit.trainer

import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Utf8
import dev.toolkit.trainer.tokenizer.TokenizerFile
import org.json.JSONObject
import org.json.JSONTokener
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import java.io.DataInputStream
import java.io.File

/** The tokenizer of the phone against the one that models are trained with. */
@RunWith(RobolectricTestRunner::class)
class TokenizerTest {
    @get:Rule val temporary = TemporaryFolder()
    private val folder = File(System.getProperty("toolkit.tokenizers") ?: File(Fixtures.folder, "tokenizers").path)

    @Test
    fun `equals the tokenizers library, with every family's tokenizer`() {
        val texts = texts()
        assertTrue("${texts.size} texts", texts.size >= 6_000)
        val names = folder.listFiles().orEmpty().filter { it.isDirectory }.map { it.name }.sorted()
        val families = listOf("gemma3", "granite3", "llama3.2", "olmo2", "phi3", "phi4", "qwen2.5", "qwen3", "smollm2", "smollm3")
        assertTrue("$names", names.containsAll(families))
        val figures = StringBuilder()
        for (name in names) {
            val begin = System.nanoTime()
            val tokenizer = TokenizerFile(File(folder, name)).read()
            val loaded = System.nanoTime()
            compare(name, "tokens.bin", texts) { tokenizer.encode(it) }
            compare(name, "plain.bin", texts.take(2_000)) { tokenizer.encode(it, special = false) }
            val seconds = listOf(loaded - begin, System.nanoTime() - loaded).map { it / 1e9 }
            figures.append("%-12s read in %.2f s, %d texts in %.2f s\n".format(name, seconds[0], texts.size, seconds[1]))
        }
        File(System.getProperty("toolkit.results")!!, "tokenizers.txt").also { it.parentFile!!.mkdirs() }.writeText("$figures")
    }

    @Test
    fun `writes what the tokenizers library writes, token by token`() {
        // But for special tokens that are looked for in normalized text, which it takes for words when it writes.
        for (name in folder.listFiles().orEmpty().filter { it.name != "marked" && File(it, "texts.bin").isFile }.map { it.name }.sorted()) {
            val file = TokenizerFile(File(folder, name)).also { it.read() }
            DataInputStream(File(folder, "$name/tokens.bin").inputStream().buffered(1 shl 20)).use { tokens ->
                DataInputStream(File(folder, "$name/texts.bin").inputStream().buffered(1 shl 20)).use { texts ->
                    repeat(500) { same(name, file, IntArray(tokens.readInt()) { tokens.readInt() }, texts) }
                    var token = 0
                    while (texts.available() > 0) same(name, file, intArrayOf(token++), texts)
                    assertTrue("$name: $token tokens", token >= 1500)
                }
            }
        }
    }

    private fun same(name: String, file: TokenizerFile, tokens: IntArray, texts: DataInputStream) {
        val expected = String(ByteArray(texts.readInt()).also(texts::readFully), Charsets.UTF_8)
        val writer = file.detokenizer()
        val pieces = tokens.map(writer::add)
        assertEquals("$name ${tokens.take(20)}", expected, pieces.joinToString("") + writer.rest())
        for (piece in pieces) assertFalse("$name: half a character", piece.isNotEmpty() && piece.last().isHighSurrogate())
    }

    @Test
    fun `characters come whole, and broken ones at the end`() {
        val file = TokenizerFile(File(folder, "smollm2"))
        val tokenizer = file.read()
        val tokens = tokenizer.encode("a\ud83d\ude42b", special = false)
        val writer = file.detokenizer()
        val pieces = tokens.map(writer::add)
        assertTrue("$pieces", pieces.size > 3 && "\ud83d\ude42" in pieces && "" in pieces)
        val cut = file.detokenizer()
        assertEquals("a", tokens.take(2).joinToString("") { cut.add(it) })
        assertEquals("\ufffd", cut.rest())
        val other = JSONObject(File(Fixtures.folder, "tokenizers/gpt2/tokenizer.json").readText())
        for ((words, decoder) in listOf("writes text by WordPiece" to """{"type": "WordPiece"}""", "does not say how" to "null")) {
            val target = temporary.newFolder()
            File(target, "tokenizer.json").writeText(other.put("decoder", JSONTokener(decoder).nextValue()).toString())
            val error = assertThrows(AppException::class.java) { TokenizerFile(target).also { it.read() }.detokenizer() }
            assertTrue(error.message, words in error.message!!)
        }
    }

    private fun texts(): List<String> = DataInputStream(File(folder, "cases.bin").inputStream().buffered(1 shl 20)).use { cases ->
        List(cases.readInt()) { Utf8.decode(ByteArray(cases.readInt()).also(cases::readFully)) }
    }

    private fun compare(name: String, file: String, texts: List<String>, encode: (String) -> IntArray) {
        val differences = ArrayList<String>()
        DataInputStream(File(folder, "$name/$file").inputStream().buffered(1 shl 20)).use { tokens ->
            for (text in texts) {
                val expected = IntArray(tokens.readInt()) { tokens.readInt() }
                val actual = encode(text)
                if (!actual.contentEquals(expected)) {
                    differences += "${escaped(text)}\n  expected ${expected.take(40)}\n  actual   ${actual.take(40)}"
                }
            }
            assertEquals("$name $file goes on", -1, tokens.read())
        }
        assertTrue("$name $file: ${differences.size} differ:\n" + differences.take(10).joinToString("\n"), differences.isEmpty())
    }

    /** Joining pairs takes the time of sorting them: a quadratic way would need ten minutes. */
    @Test
    fun `a word of a million characters is no trouble`() {
        for (name in listOf("gemma3", "llama3.2")) {
            val tokenizer = TokenizerFile(File(folder, name)).read()
            val few = tokenizer.encode("the".repeat(1000), special = false).size
            val begin = System.nanoTime()
            val many = tokenizer.encode("the".repeat(333_000), special = false).size
            assertEquals(few * 333.0, many.toDouble(), 1000.0)
            assertTrue("$name", System.nanoTime() - begin < 30e9)
        }
    }

    @Test
    fun `half a character pair becomes a replacement character`() {
        val tokenizer = TokenizerFile(File(folder, "smollm2")).read()
        assertEquals(tokenizer.encode("a\ufffdb").toList(), tokenizer.encode("a\ud83db").toList())
        assertEquals(tokenizer.encode("\ufffd").toList(), tokenizer.encode("\ude00").toList())
    }

    @Test
    fun `a tokenizer of another kind is refused, not guessed`() {
        val content = JSONObject(File(Fixtures.folder, "tokenizers/gpt2/tokenizer.json").readText())
        val changes = mapOf<String, (JSONObject) -> Unit>(
            "splits text by Whitespace" to { it.put("pre_tokenizer", JSONObject("""{"type": "Whitespace"}""")) },
            "neither ByteLevel nor byte_fallback" to { it.put("pre_tokenizer", JSONObject.NULL) },
            "model is Unigram" to { it.getJSONObject("model").put("type", "Unigram") },
            "pattern is not known" to {
                it.put("pre_tokenizer", JSONObject("""{"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated", "invert": false}"""))
            },
            "Split behaves as Removed" to {
                it.put("pre_tokenizer", JSONObject("""{"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Removed", "invert": false}"""))
            },
            "replaces text by a pattern" to {
                it.put("normalizer", JSONObject("""{"type": "Replace", "pattern": {"Regex": "x"}, "content": ""}"""))
            },
            "adds tokens by BertProcessing" to { it.put("post_processor", JSONObject("""{"type": "BertProcessing"}""")) },
            "(single_word)" to { it.getJSONArray("added_tokens").getJSONObject(0).put("single_word", true) },
            "(end_of_word_suffix)" to { it.getJSONObject("model").put("end_of_word_suffix", "</w>") },
            "has two numbers" to { it.getJSONArray("added_tokens").getJSONObject(0).put("content", "&") },
            "have one number" to { it.getJSONObject("model").getJSONObject("vocab").put("twice", 7) },
            "one number, 9" to { it.getJSONArray("added_tokens").getJSONObject(0).put("content", "<new>").put("id", 9) },
            "normalizes text by Lowercase" to { it.put("normalizer", JSONObject("""{"type": "Lowercase"}""")) },
        )
        for ((words, change) in changes) {
            val changed = JSONObject(content.toString()).also(change)
            val target = temporary.newFolder()
            File(target, "tokenizer.json").writeText(changed.toString())
            val error = assertThrows(words, AppException::class.java) { TokenizerFile(target).read() }
            assertTrue(error.message, words in error.message!!)
        }
    }

    @Test
    fun `a token for unknown text that is not there is refused where text can be unknown`() {
        for ((name, refused) in listOf("unknown" to true, "gemma3" to false)) {
            val content = JSONObject(File(Fixtures.folder, "tokenizers/$name/tokenizer.json").readText())
            content.getJSONObject("model").put("unk_token", "<none>")
            val target = temporary.newFolder()
            File(target, "tokenizer.json").writeText(content.toString())
            val message = runCatching { TokenizerFile(target).read() }.exceptionOrNull()?.message
            assertEquals("$message", refused, "lacks its token <none>" in message.orEmpty())
            assertEquals("$message", refused, message != null)
        }
    }

    @Test
    fun `a damaged or missing file is one clear message`() {
        val target = temporary.newFolder()
        assertThrows(AppException::class.java) { TokenizerFile(target).read() }
        val whole = File(Fixtures.folder, "tokenizers/gpt2/tokenizer.json").readText()
        for (text in listOf("", "{", "[]", whole.take(whole.length / 2), "{\"model\": {\"vocab\": {\"a\": \"b\"}}}")) {
            File(target, "tokenizer.json").writeText(text)
            assertThrows(AppException::class.java) { TokenizerFile(target).read() }
        }
    }

    private fun escaped(text: String) = text.take(60).map { if (it.code in 32..126) "$it" else "\\u%04x".format(it.code) }.joinToString("")
}
