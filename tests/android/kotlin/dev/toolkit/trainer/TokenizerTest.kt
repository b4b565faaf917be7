package dev.toolkit.trainer

import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Utf8
import dev.toolkit.trainer.tokenizer.TokenizerFile
import org.json.JSONObject
import org.junit.Assert.assertEquals
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
    private val folder = File(Fixtures.folder, "tokenizers")

    @Test
    fun `equals the tokenizers library on 100,000 texts, with every pre-tokenizer`() {
        val names = File(folder, "names.txt").readLines()
        assertTrue(names.containsAll(listOf("smollm2", "qwen2")))
        val tokenizers = names.map { TokenizerFile(File(folder, it)).read() }
        val differences = ArrayList<String>()
        DataInputStream(File(folder, "cases.bin").inputStream().buffered(1 shl 20)).use { cases ->
            val count = cases.readInt()
            assertTrue(count >= 100_000)
            repeat(count) {
                val bytes = ByteArray(cases.readInt()).also(cases::readFully)
                val text = Utf8.decode(bytes)
                for ((name, tokenizer) in names.zip(tokenizers)) {
                    val expected = List(cases.readInt()) { cases.readInt() }
                    val actual = tokenizer.encode(text).toList()
                    if (actual != expected) differences += "$name ${escaped(text)}\n  expected $expected\n  actual   $actual"
                }
            }
        }
        assertTrue("${differences.size} differ:\n" + differences.take(10).joinToString("\n"), differences.isEmpty())
    }

    @Test
    fun `half a character pair becomes a replacement character`() {
        val tokenizer = TokenizerFile(File(folder, "smollm2")).read()
        assertEquals(tokenizer.encode("a\ufffdb").toList(), tokenizer.encode("a\ud83db").toList())
        assertEquals(tokenizer.encode("\ufffd").toList(), tokenizer.encode("\ude00").toList())
    }

    @Test
    fun `a tokenizer of another kind is refused, not guessed`() {
        val content = JSONObject(File(folder, "gpt2/tokenizer.json").readText())
        val changes = mapOf<String, (JSONObject) -> Unit>(
            "splits text by Metaspace" to { it.put("pre_tokenizer", JSONObject("""{"type": "Metaspace"}""")) },
            "not byte-level" to { it.put("pre_tokenizer", JSONObject.NULL) },
            "model is Unigram" to { it.getJSONObject("model").put("type", "Unigram") },
            "pattern is not known" to {
                it.put("pre_tokenizer", JSONObject("""{"type": "Split", "pattern": {"Regex": "x"}, "behavior": "Isolated", "invert": false}"""))
            },
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
    fun `a damaged or missing file is one clear message`() {
        val target = temporary.newFolder()
        assertThrows(AppException::class.java) { TokenizerFile(target).read() }
        val whole = File(folder, "gpt2/tokenizer.json").readText()
        for (text in listOf("", "{", "[]", whole.take(whole.length / 2), "{\"model\": {\"vocab\": {\"a\": \"b\"}}}")) {
            File(target, "tokenizer.json").writeText(text)
            assertThrows(AppException::class.java) { TokenizerFile(target).read() }
        }
    }

    private fun escaped(text: String) = text.take(60).map { if (it.code in 32..126) "$it" else "\\u%04x".format(it.code) }.joinToString("")
}
