package dev.toolkit.trainer

import dev.toolkit.trainer.chats.Choices
import dev.toolkit.trainer.chats.Format
import dev.toolkit.trainer.chats.Speaker
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.DataSet
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.store.Utf8
import dev.toolkit.trainer.template.Jinja
import dev.toolkit.trainer.template.TemplateError
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.RobolectricTestRunner
import org.robolectric.RuntimeEnvironment

/** Chats, tables and records to training data on the phone, against `toolkit data` with the templates of every family. */
@RunWith(RobolectricTestRunner::class)
class ChatDataTest {
    @get:Rule val temporary = TemporaryFolder()
    private val chats = File(Fixtures.folder, "chats")
    private val me = "Anna Müller"

    private fun text(name: String) = Utf8.decode(File(chats, "files/$name").readBytes())

    private fun read(name: String, choices: Choices = Choices(me)) = text(name).let { Format.of(name, it).read(name, it, choices) }

    @Test
    fun `tokens and masks are those of toolkit data, for every family's template`() {
        val app = Fixtures.deploy(temporary, listOf("words"))
        val families = chats.listFiles()!!.filter { File(it, "rows.json").isFile }
        assertEquals(10, families.size)
        for (family in families) {
            val expected = JSONObject(File(family, "rows.json").readText())
            val bundle = app.bundles.require("words")
                .copy(folder = family, sequenceLengths = listOf(expected.getInt("length")), vocabulary = Int.MAX_VALUE)
            val files = expected.getJSONArray("files").let { list -> List(list.length()) { list.getString(it) } }
            val documents = files.asSequence().flatMap { read(it) }
            val set = TextData(app.folders).make(family.name, bundle, documents, heldOutOf = Int.MAX_VALUE)
            for ((index, name) in listOf("tokens", "labels", "positions", "start").withIndex()) {
                assertArrayEquals("${family.name}: $name", flattened(expected.getJSONArray(name)), tensor(set, index))
            }
            val said = JSONObject(File(family, "data/data.json").readText()).getJSONObject("train")
            val told = JSONObject(File(set.folder, "data.json").readText()).getJSONObject("train")
            for (count in listOf("documents", "sequences", "tokens", "labelled")) assertEquals("${family.name}: $count", said.getLong(count), told.getLong(count))
        }
    }

    private fun tensor(set: DataSet, index: Int): IntArray {
        val file = ByteBuffer.wrap(set.train.readBytes()).order(ByteOrder.LITTLE_ENDIAN)
        return IntArray(set.sequences * set.sequenceLength) { file.getInt(16384 * (index + 1) + 4 * it) }
    }

    private fun flattened(rows: JSONArray): IntArray =
        (0 until rows.length()).flatMap { row -> rows.getJSONArray(row).let { values -> List(values.length()) { values.getInt(it) } } }.toIntArray()

    @Test
    fun `a file is what it looks like`() {
        val expected = mapOf(
            "android.txt" to Format.WHATSAPP, "us.txt" to Format.WHATSAPP, "ios.txt" to Format.WHATSAPP, "iso.txt" to Format.WHATSAPP,
            "result.json" to Format.TELEGRAM, "records.jsonl" to Format.JSON, "list.json" to Format.JSON, "table.csv" to Format.TABLE,
            "columns.tsv" to Format.TABLE, "plain.txt" to Format.TEXT,
        )
        for ((name, format) in expected) {
            assertEquals(name, format, Format.of(name, text(name)))
            // Providers give other names.
            if (!format.isChat && name != "columns.tsv") assertEquals(name, format, Format.of("document", text(name)))
        }
        fun people(name: String) = text(name).let { Format.of(name, it).speakers(name, it) }.map { p: Speaker -> p.name to p.messages }
        assertEquals(listOf(me to 4, "Ben" to 3), people("android.txt"))
        assertEquals(listOf(me to 3, "Ben" to 2, "Cleo" to 1), people("us.txt"))
    }

    @Test
    fun `a line of a megabyte is read in no time, whatever it is made of`() {
        val lines = mapOf(
            "spaces" to " ".repeat(1 shl 20) + "<a>", "marks" to "\u200e<".repeat(1 shl 19), "left to right" to "\u200e".repeat(1 shl 20),
            "brackets" to "(".repeat(1 shl 20) + " (x", "attached" to "x (file attached".repeat(1 shl 16), "picture" to "IMG-20231231-WA" + "7".repeat(1 shl 20),
            "quotes" to "\"«“".repeat(1 shl 18), "colons" to ": ".repeat(1 shl 19), "dates" to "31.12.23, 22:15 - ".repeat(1 shl 16),
        )
        for ((name, line) in lines) {
            val export = "31.12.23, 22:14 - Ben: Hello\n31.12.23, 22:15 - $me: hm $line.\n$line\n31.12.23, 22:16 - Ben: what?\n"
            val begun = System.nanoTime()
            val format = Format.of("chat.txt", export)
            assertEquals(name, Format.WHATSAPP, format)
            assertEquals(name, 2, format.speakers("chat.txt", export).size)
            assertTrue(name, format.read("chat.txt", export, Choices(me)).single().messages!![1].getValue("content").toString().startsWith("hm "))
            val seconds = (System.nanoTime() - begun) / 1e9
            assertTrue("$name took $seconds s", seconds < 2)
        }
    }

    @Test
    fun `what a chat template cannot do is said in the language of the phone`() {
        RuntimeEnvironment.setQualifiers("de")
        Fixtures.deploy(temporary)
        fun refused(template: String): String =
            assertThrows(template, TemplateError::class.java) { Jinja(template).render(mapOf("messages" to listOf(mapOf("role" to "user")))) }.message.orEmpty()
        for ((template, word) in mapOf(
            "{{ messages | groupby('role') }}" to "groupby", "{% include 'a' %}" to "include", "{{ messages is callable }}" to "callable",
            "{{ messages[::2] }}" to "[::2]", "{{ messages | tojson(indent=2) }}" to "tojson", "{{ range(1, 9, 2) }}" to "range",
        )) assertTrue(refused(template), refused(template).startsWith("sie verwendet ") && word in refused(template) && refused(template).endsWith("was diese App nicht kennt"))
        for ((template, word) in mapOf("{{ messages[0].content.text }}" to "text", "{{ 1 < 'a' }}" to "<", "{{ 1 + 'a' }}" to "+", "{% for a in 1 %}{% endfor %}" to "for")) {
            assertEquals("bei $word erwartet sie etwas anderes", refused(template))
        }
        for ((template, word) in mapOf("{% if true %}" to "endif", "{{ 'a" to "'", "{# a" to "{#", "{{ a" to "{{", "{{ § }}" to "§", "{{ , }}" to ",")) {
            assertEquals("bei $word ist sie falsch geschrieben", refused(template))
        }
        assertEquals("sie sagt „After user comes assistant“", refused("{{ raise_exception('After user comes assistant') }}"))
    }

    @Test
    fun `columns are learned as they were chosen`() {
        val table = "Nr,Frage,Antwort\n1,wo?,hier\n2,\"wann,\ngenau?\",jetzt\n"
        assertEquals(listOf("Nr", "Frage", "Antwort"), Format.TABLE.columns("t.csv", table))
        val pairs = Format.TABLE.read("t.csv", table, Choices(question = "Frage", answer = "Antwort")).map { it.prompt to it.completion }.toList()
        assertEquals(listOf("wo?" to "hier", "wann,\ngenau?" to "jetzt"), pairs)
        assertEquals(listOf("hier", "jetzt"), Format.TABLE.read("t.csv", table, Choices(answer = "Antwort")).map { it.text }.toList())
    }

    @Test
    fun `what cannot be read says where and why, and leaves nothing behind`() {
        val app = Fixtures.deploy(temporary)
        val bundle = app.bundles.require("words")
        fun refused(name: String, text: String, choices: Choices = Choices()): String = assertThrows(name, AppException::class.java) {
            val documents = sequence { yieldAll(Format.of(name, text).read(name, text, choices)) }
            TextData(app.folders).make("mine", bundle, documents)
        }.message.orEmpty()
        assertTrue("a.jsonl:2: this line is no JSON" in refused("a.jsonl", "{\"text\": \"a\"}\n{\"text\": \n"))
        assertTrue("A record needs" in refused("a.jsonl", "{\"words\": \"a\"}\n"))
        assertTrue("the role x" in refused("a.jsonl", "{\"messages\": [{\"role\": \"x\", \"content\": \"a\"}]}\n"))
        assertTrue("with toolkit data" in refused("a.jsonl", "{\"messages\": [], \"tools\": [{}]}\n"))
        assertTrue("Choose which one" in refused("a.csv", "a,b\n1,2\n"))
        assertTrue("a.csv:3: 1 fields" in refused("a.csv", "text,b\n1,2\n3\n"))
        assertTrue("no column c" in refused("a.csv", "text,b\n1,2\n", Choices(answer = "c")))
        // What is not learned for another reason is not said to be too long.
        assertTrue("Nobody is answered" in refused("a.jsonl", """{"messages": [{"role": "user", "content": "hello"}]}"""))
        assertTrue("Nobody is answered" in refused("chat.txt", "31.12.23, 22:14 - $me: hello\n31.12.23, 22:15 - $me: are you there?\n", Choices(me)))
        assertTrue("fits into the 24 tokens" in refused("a.jsonl", """{"prompt": "${"hello there ".repeat(20)}", "completion": "well"}"""))
        assertTrue("fits into the 24 tokens" in refused("chat.txt", text("android.txt"), Choices(me)))
        assertTrue("“Nobody”" in refused("chat.txt", text("android.txt"), Choices("Nobody")))
        assertTrue("as Telegram exports it" in refused("result.json", text("result.json").replace("\"date\"", "\"day\"")))
        assertTrue(app.data.find("mine") == null)
        File(bundle.folder, "chat_template.jinja").delete()
        File(bundle.folder, "tokenizer_config.json").run { writeText(JSONObject(readText()).apply { remove("chat_template") }.toString()) }
        assertTrue("no chat template" in refused("chat.txt", text("android.txt"), Choices(me)))
    }
}
