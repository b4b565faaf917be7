package dev.toolkit.trainer

import android.app.Activity
import android.content.ClipboardManager
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.Switch
import android.widget.TextView
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.engine.Engine
import dev.toolkit.trainer.engine.EngineException
import dev.toolkit.trainer.service.Side
import dev.toolkit.trainer.store.AdapterFile
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.AskActivity
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.android.controller.ActivityController
import java.io.File
import java.util.concurrent.CountDownLatch

/** A trained model is asked, with the real engine: it writes what the command line has it write. */
@RunWith(RobolectricTestRunner::class)
class AskTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp
    private lateinit var run: Run
    private val expected = Fixtures.replies()
    private val prompt = expected.getString("prompt")

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary)
        run = Fixtures.talker(app)
    }

    @After
    fun end() {
        app.asking.stop()
        await("the end of the answer") { !app.asking.errand.running }
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
    }

    private fun open(): ActivityController<AskActivity> =
        Robolectric.buildActivity(AskActivity::class.java, AskActivity.intent(app, run.name)).setup()

    private fun Activity.go(words: String) {
        await("the engine") { requireViewById<View>(R.id.go).isEnabled }
        requireViewById<Switch>(R.id.as_chat).isChecked = false
        requireViewById<EditText>(R.id.prompt).setText(words)
        requireViewById<Button>(R.id.go).performClick()
    }

    private fun Activity.answer(card: Int): TextView = requireViewById<View>(card).requireViewById(R.id.answer)

    /** Holds the answer after so many tokens until the test lets it go on. */
    private fun holdAfter(tokens: Int, side: Side): CountDownLatch {
        val release = CountDownLatch(1)
        var seen = 0
        app.asking.addListener { if (app.asking.answer(side) != null && ++seen == tokens) release.await() }
        return release
    }

    @Test
    fun `both answers stream, are the command line's, and can be copied`() {
        val controller = open()
        val screen = controller.get()
        assertTrue(text(screen, "Nothing asked yet"))
        val release = holdAfter(5, Side.AFTER)
        screen.go(prompt)
        assertTrue(screen.requireViewById<View>(R.id.halt).isShown && !screen.requireViewById<View>(R.id.go).isShown)
        await("half an answer") { screen.answer(R.id.after).run { isShown && text.isNotEmpty() } }
        assertTrue(expected.getString("after").startsWith(screen.answer(R.id.after).text))
        assertTrue(text(screen, "Writes"))
        assertTrue("the screen stays on", screen.requireViewById<View>(R.id.scroll).keepScreenOn)
        controller.recreate()
        release.countDown()
        val turned = controller.get()
        await("the answers") { !app.asking.errand.running }
        assertEquals(expected.getString("before"), turned.answer(R.id.before).text.toString())
        assertEquals(expected.getString("after"), turned.answer(R.id.after).text.toString())
        assertTrue(text(turned, "128 tokens, "))
        assertFalse(turned.requireViewById<View>(R.id.scroll).keepScreenOn)
        turned.requireViewById<View>(R.id.after).requireViewById<View>(R.id.copy).performClick()
        val clip = turned.getSystemService(ClipboardManager::class.java)!!.primaryClip!!
        assertEquals(expected.getString("after"), clip.getItemAt(0).text.toString())
        assertFalse(File(app.cacheDir, "asked").exists())
        controller.close()
        val again = open()
        assertEquals("what was asked last is there", prompt, again.get().requireViewById<EditText>(R.id.prompt).text.toString())
        assertEquals(expected.getString("after"), again.get().answer(R.id.after).text.toString())
        again.close()
    }

    @Test
    fun `a message is answered in the model's chat template, as the command line answers it`() {
        val controller = open()
        val screen = controller.get()
        await("the engine") { screen.requireViewById<View>(R.id.go).isEnabled }
        assertTrue("a model with a template is asked so", screen.requireViewById<Switch>(R.id.as_chat).run { isShown && isChecked })
        assertTrue(text(screen, "Your message"))
        screen.requireViewById<EditText>(R.id.prompt).setText(prompt)
        screen.requireViewById<Button>(R.id.go).performClick()
        await("the answers") { !app.asking.errand.running && app.asking.answer(Side.AFTER)?.reply != null }
        assertEquals(expected.getString("chat_before"), screen.answer(R.id.before).text.toString())
        assertEquals(expected.getString("chat_after"), screen.answer(R.id.after).text.toString())
        screen.requireViewById<Switch>(R.id.as_chat).performClick()
        assertTrue(text(screen, "Beginning of the text"))
        controller.close()
    }

    @Test
    fun `an answer ends where it is stopped, and when nobody looks`() {
        val controller = open()
        for (stop in listOf({ controller.get().requireViewById<View>(R.id.halt).performClick().let { } }, { controller.pause().stop().let { } })) {
            val release = holdAfter(4, Side.BEFORE)
            controller.get().go(prompt)
            await("some words") { app.asking.answer(Side.BEFORE)?.text.orEmpty().isNotEmpty() }
            stop()
            release.countDown()
            await("the end") { !app.asking.errand.running }
            val answer = app.asking.answer(Side.BEFORE)!!
            assertEquals("cancel", answer.reply!!.reason)
            assertTrue("${answer.reply}", answer.reply!!.tokens < 10)
            assertEquals(null, app.asking.answer(Side.AFTER))
            assertTrue(text(controller.get(), "Stopped") && text(controller.get(), "Not answered: it was ended before"))
            assertFalse(text(controller.get(), "nothing to add") || text(controller.get(), "Nothing asked yet"))
        }
        controller.destroy()
    }

    @Test
    fun `the screen of another run neither ends an answer nor is told of it`() {
        Fixtures.talker(app, "other")
        val controller = open()
        val other = Robolectric.buildActivity(AskActivity::class.java, AskActivity.intent(app, "other")).setup()
        val release = holdAfter(3, Side.BEFORE)
        controller.get().go(prompt)
        await("some words") { app.asking.answer(Side.BEFORE)?.text.orEmpty().isNotEmpty() }
        other.pause().stop()
        release.countDown()
        await("the end") { !app.asking.errand.running }
        assertEquals(expected.getString("after"), app.asking.answer(Side.AFTER)!!.text)
        assertTrue(text(other.get(), "Nothing asked yet"))
        other.destroy()
        controller.close()
    }

    @Test
    fun `a run that begins has the engine, and none is asked beside it`() {
        Fixtures.create(app, "long", Fixtures.reference.copy(steps = 100_000))
        val controller = open()
        val release = holdAfter(3, Side.BEFORE)
        controller.get().go(prompt)
        await("some words") { app.asking.answer(Side.BEFORE)?.text.orEmpty().isNotEmpty() }
        app.controller.start("long")
        release.countDown()
        await("the run") { (app.controller.active?.progress?.step ?: 0) > 0 }
        await("the words") { text(controller.get(), "A run has begun") }
        controller.get().go(prompt)
        await("the refusal") { text(controller.get(), "Run “long” is active") }
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
        controller.get().go(prompt)
        await("both answers") { app.asking.answer(Side.AFTER)?.reply != null }
        assertEquals(expected.getString("after"), app.asking.answer(Side.AFTER)!!.text)
        controller.close()
    }

    @Test
    fun `what cannot be asked says why`() {
        val controller = open()
        val screen = controller.get()
        screen.go("  ")
        assertEquals("Write a beginning first.", screen.requireViewById<EditText>(R.id.prompt).error.toString())
        screen.go("hello ".repeat(4000))
        await("the length") { text(screen, "do not fit into") }
        val whole = run.adapter.readBytes()
        for (bytes in listOf(whole.copyOf(whole.size - 4), whole.copyOf(20), ByteArray(8) { -1 })) {
            run.adapter.writeBytes(bytes)
            screen.go(prompt)
            await("the refusal of ${bytes.size} bytes") { text(screen, "What the model learned cannot be read") }
        }
        run.adapter.writeBytes(String(whole, Charsets.ISO_8859_1).replace("layers.1.", "layers.9.").toByteArray(Charsets.ISO_8859_1))
        screen.go(prompt)
        await("another model's") { text(screen, "layers.1.") }
        run.adapter.delete()
        screen.go(prompt)
        await("no adapter") { text(screen, "has no adapter before its first save") }
        File(Fixtures.deployed(), "bundles/words/tokenizer.json").delete()
        run.adapter.writeBytes(whole)
        screen.go(prompt)
        await("no tokenizer") { text(screen, "is missing") }
        controller.close()
    }

    @Test
    fun `an adapter is for the engine what it is for peft`() {
        val target = File(temporary.root, "a/adapter.ptd")
        AdapterFile(File(Fixtures.folder, "reference/adapter_model.safetensors")).writeTo(target)
        // Zero steps on: the engine reads it and writes what it has read.
        val out = File(temporary.root, "out")
        Engine.open(Fixtures.options(out, steps = 1) + mapOf("adapter" to target.path, "lr" to "1e-30")).use { while (it.step()) Unit }
        val first = File(out, "adapter_model.safetensors").readBytes()
        val peft = Fixtures.referenceAdapter()
        val begin = 8 + java.nio.ByteBuffer.wrap(peft).order(java.nio.ByteOrder.LITTLE_ENDIAN).long.toInt()
        assertEquals(peft.toList().drop(begin), first.toList().drop(begin))
        assertThrows(AppException::class.java) { AdapterFile(File(temporary.root, "none")).writeTo(target) }
    }

    @Test
    fun `a model that is asked is closed once, and alone`() {
        val bundle = mapOf("bundle" to File(Fixtures.folder, "bundles/words").path, "adapter" to "none", "threads" to "1")
        Engine.generator(bundle).use { model ->
            val second = assertThrows(EngineException::class.java) { Engine.generator(bundle) }
            assertTrue(second.message, "open" in second.message!!)
            assertThrows(EngineException::class.java) { Engine.open(Fixtures.options(File(temporary.root, "x"))) }
            model.set(mapOf("max-tokens" to "3"))
            val tokens = ArrayList<Int>()
            val reply = model.reply(intArrayOf(5, 6, 7)) { tokens.add(it) }
            assertEquals("length", reply.reason)
            assertEquals(listOf(3L, 3L), listOf(reply.tokens, reply.promptTokens))
            assertEquals(3, tokens.count { it >= 0 })
            model.close()
        }
        val error = assertThrows(EngineException::class.java) { Engine.generator(bundle + ("context" to "many")) }
        assertEquals(2, error.status)
        assertEquals(RunState.COMPLETED, app.runs.require("talks").state)
    }
}
