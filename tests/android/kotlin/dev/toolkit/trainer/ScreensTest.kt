package dev.toolkit.trainer

import android.app.Activity
import android.app.ActivityManager
import android.app.AlertDialog
import android.content.Intent
import android.net.Uri
import android.view.View
import android.widget.Button
import android.widget.ImageButton
import android.widget.Spinner
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.languages
import dev.toolkit.trainer.Pictures.looks
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.Pictures.turned
import dev.toolkit.trainer.policy.Hours
import dev.toolkit.trainer.service.Doing
import dev.toolkit.trainer.service.Refusal
import dev.toolkit.trainer.store.Outcome
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.store.TextData
import dev.toolkit.trainer.ui.AskActivity
import dev.toolkit.trainer.ui.ImportActivity
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.NewRunActivity
import dev.toolkit.trainer.ui.RunActivity
import dev.toolkit.trainer.ui.SettingsActivity
import dev.toolkit.trainer.ui.TextActivity
import dev.toolkit.trainer.ui.WelcomeActivity
import org.junit.After
import org.junit.Assert.assertTrue
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.shadows.ShadowDialog
import java.io.File
import java.util.Locale
import kotlin.math.exp
import kotlin.math.sin

/** Every screen in every state, in both themes, two sizes and a large font: pictures to look at. */
@RunWith(RobolectricTestRunner::class)
class ScreensTest {
    @get:Rule val temporary = TemporaryFolder()

    @After
    fun speakEnglish() = Locale.setDefault(Locale.US)

    @Test
    fun `screens with content`() {
        val app = Fixtures.deploy(temporary)
        freeMemory(app)
        fill(app)
        val documents = Documents.register()
        val files = listOf("Chats with grandma, 2019 to 2024.txt", "diary.txt").map { documents.add(it, it, "dear grandma ".repeat(300).toByteArray()) }
        for (look in looks) {
            Pictures.apply(look)
            Pictures.take(look, "runs", MainActivity::class.java, null) { text(it, "smollm2-chat") && text(it, "tiny-words") }
            Pictures.take(look, "run", RunActivity::class.java, RunActivity.intent(app, "smollm2-chat")) { text(it, "Peak memory") && text(it, "of it the trace") }
            Pictures.take(look, "run-new", RunActivity::class.java, RunActivity.intent(app, "not-yet")) { text(it, "Not started") }
            Pictures.take(look, "run-failed", RunActivity::class.java, RunActivity.intent(app, "diary")) { text(it, "Failed") }
            Pictures.take(look, "run-completed", RunActivity::class.java, RunActivity.intent(app, "letters-to-grandma")) { text(it, "Completed") }
            val forLetters = NewRunActivity.intent(app, "words", "my-letters")
            Pictures.take(look, "new-run", NewRunActivity::class.java, forLetters) { text(it, "my-letters") }
            Pictures.take(look, "text", TextActivity::class.java, null) { text(it, "my-letters") }
            Pictures.take(look, "text-files", TextActivity::class.java, null, { pick(it, files) }) { text(it, "my-letters") }
            Pictures.take(look, "settings", SettingsActivity::class.java, null) { text(it, "Only while charging") }
        }
    }

    @Test
    fun `a trained model is asked`() {
        val app = Fixtures.deploy(temporary)
        val run = Fixtures.talker(app, "letters-to-grandma")
        val intent = AskActivity.intent(app, run.name)
        Pictures.apply(looks[0])
        Pictures.take(looks[0], "ask-empty", AskActivity::class.java, intent) { text(it, "Nothing asked yet") }
        app.asking.ask(run.name, Fixtures.replies().getString("prompt"))
        await("the answers") { !app.asking.errand.running }
        for (look in looks + turned + languages) {
            Pictures.apply(look)
            Pictures.take(look, "ask", AskActivity::class.java, intent) { text(it, "how are you doing today?") }
        }
        Pictures.apply(looks[0])
        app.controller.start(Fixtures.create(app, "long", Fixtures.reference.copy(steps = 100_000)).name)
        Pictures.take(looks[0], "ask-refused", AskActivity::class.java, intent, { it.requireViewById<Button>(R.id.go).performClick() }) {
            it.requireViewById<Button>(R.id.go).isEnabled
        }
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
    }

    @Test
    fun `a model that another app shares`() {
        val app = Fixtures.deploy(temporary)
        val archive = File(Fixtures.folder, "words.zip").readBytes()
        File(Fixtures.deployed(), "bundles/words").deleteRecursively()
        val uri = Documents.register().add("1", "SmolLM2-135M-Instruct-of-a-long-name.zip", archive)
        val intent = Intent(Intent.ACTION_SEND).setType("application/zip").putExtra(Intent.EXTRA_STREAM, uri)
        for (look in looks + languages) {
            Pictures.apply(look)
            Pictures.take(look, "import-asks", ImportActivity::class.java, intent) { text(it, "SmolLM2") }
        }
        assertTrue(app.bundles.find("words") == null)
    }

    @Test
    fun `screens of a phone and a tablet on their sides`() {
        val app = Fixtures.deploy(temporary)
        freeMemory(app)
        fill(app)
        for (look in turned) {
            Pictures.apply(look)
            Pictures.take(look, "runs", MainActivity::class.java, null) { text(it, "smollm2-chat") && text(it, "tiny-words") }
            Pictures.take(look, "run", RunActivity::class.java, RunActivity.intent(app, "smollm2-chat")) { text(it, "Peak memory") }
            Pictures.take(look, "text", TextActivity::class.java, null) { text(it, "my-letters") }
        }
    }

    @Test
    fun `screens in another language and from right to left`() {
        val app = Fixtures.deploy(temporary)
        freeMemory(app)
        fill(app)
        app.policy.write(app.policy.read().copy(hours = Hours(1380, 420)))
        for (look in languages) {
            Pictures.apply(look)
            Pictures.take(look, "runs", MainActivity::class.java, null) { text(it, "smollm2-chat") && text(it, "tiny-words") }
            Pictures.take(look, "run-completed", RunActivity::class.java, RunActivity.intent(app, "letters-to-grandma")) { text(it, "peft").not() && text(it, "tiny") }
            Pictures.take(look, "new-run", NewRunActivity::class.java, NewRunActivity.intent(app, "words", "my-letters"), ::unfold) { text(it, "my-letters") }
            Pictures.take(look, "settings", SettingsActivity::class.java, null) { text(it, "avx") || text(it, "fallback") }
            Pictures.take(look, "text", TextActivity::class.java, null) { text(it, "my-letters") }
            Pictures.take(look, "import", ImportActivity::class.java, null) { text(it, "toolkit export") }
        }
    }

    private fun unfold(screen: Activity) {
        screen.requireViewById<View>(R.id.expert).performClick()
    }

    @Test
    fun `screens of an empty phone`() {
        Fixtures.deploy(temporary, emptyList())
        File(Fixtures.deployed(), "data").deleteRecursively()
        for (look in looks) {
            Pictures.apply(look)
            Pictures.take(look, "runs-empty", MainActivity::class.java, null) { text(it, "No runs yet") }
            Pictures.take(look, "new-run-empty", NewRunActivity::class.java, null) { text(it, "toolkit deploy") }
            Pictures.take(look, "text-empty", TextActivity::class.java, null) { text(it, "no model with a tokenizer") }
        }
    }

    @Test
    fun `the introduction`() {
        Fixtures.deploy(temporary, emptyList())
        for (look in looks + Pictures.languages + Pictures.turned) {
            Pictures.apply(look)
            // In the other looks the longest page.
            val all = look.name == "phone-light" || look.name == "phone-large-font"
            for (page in if (all) 1..3 else 3..3) {
                val turn = { screen: Activity -> repeat(page - 1) { screen.requireViewById<View>(R.id.next).performClick() } }
                Pictures.take(look, "welcome-$page", WelcomeActivity::class.java, null, turn) { it.requireViewById<View>(R.id.next).isShown }
            }
        }
    }

    @Test
    fun `screens of a run that trains, waits, and keeps another one from starting`() {
        val app = Fixtures.deploy(temporary)
        freeMemory(app)
        Fixtures.create(app, "overnight", Fixtures.reference.copy(steps = 100_000))
        Fixtures.create(app, "another")
        app.controller.start("overnight")
        await("some steps") { (app.controller.active?.progress?.step ?: 0) > 20 }
        for (look in looks) {
            Pictures.apply(look)
            Pictures.take(look, "run-training", RunActivity::class.java, RunActivity.intent(app, "overnight")) { text(it, "Time left") }
            Pictures.take(look, "runs-training", MainActivity::class.java, null) { text(it, "Training") }
        }
        Fixtures.power(plugged = false, level = 80)
        await("the wait") { app.controller.active?.doing == Doing.WAITING }
        val reason = runCatching { app.controller.start("another") }.exceptionOrNull()?.message!!
        app.controller.refuse(Refusal("another", reason))
        for (look in looks) {
            Pictures.apply(look)
            Pictures.take(look, "runs-refusal", MainActivity::class.java, null) { text(it, "two at once") && text(it, "another") }
            Pictures.take(look, "run-refused", RunActivity::class.java, RunActivity.intent(app, "another")) { text(it, "two at once") }
            Pictures.take(look, "run-waiting", RunActivity::class.java, RunActivity.intent(app, "overnight")) { text(it, "Waiting for the charger") }
        }
        app.controller.stop()
        assertTrue(app.controller.join(30_000))
    }

    @Test
    fun `damaged models and refused input`() {
        val app = Fixtures.deploy(temporary)
        File(Fixtures.deployed(), "bundles/tiny/base.ptd").delete()
        File(Fixtures.deployed(), "data/rows").deleteRecursively()
        for (look in looks) {
            Pictures.apply(look)
            Pictures.take(look, "runs-damaged", MainActivity::class.java, null) { text(it, "base.ptd is missing") }
            Pictures.take(look, "new-run-no-data", NewRunActivity::class.java, null) { text(it, "no training data for this model") }
            val make = { screen: Activity -> screen.requireViewById<Button>(R.id.make).performClick().let { } }
            Pictures.take(look, "text-refused", TextActivity::class.java, null, make) { loaded(it) }
        }
        TextData(app.folders).make("mine", app.bundles.require("words"), listOf("hello there, how are you? ".repeat(9)))
        val start = { screen: Activity ->
            screen.requireViewById<android.widget.EditText>(R.id.steps).setText("many")
            screen.requireViewById<Button>(R.id.start).performClick().let { }
        }
        for (look in looks) {
            Pictures.apply(look)
            Pictures.take(look, "new-run-refused", NewRunActivity::class.java, null, start) { text(it, "mine") }
        }
    }

    @Test
    fun `questions before something is deleted`() {
        val app = Fixtures.deploy(temporary)
        fill(app)
        for (look in looks) {
            Pictures.apply(look)
            val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "diary")).setup()
            await("the page") { text(page.get(), "Failed") }
            assertTrue(shadowOf(page.get()).clickMenuItem(R.id.delete))
            Pictures.take(look, "dialog-delete-run", ShadowDialog.getLatestDialog())
            page.close()
            val screen = Robolectric.buildActivity(TextActivity::class.java).setup()
            await("the list") { text(screen.get(), "my-letters") }
            val before = ShadowDialog.getLatestDialog()
            screen.get().requireViewById<ImageButton>(R.id.delete).performClick()
            await("the question") { ShadowDialog.getLatestDialog() !== before }
            Pictures.take(look, "dialog-delete-data", ShadowDialog.getLatestDialog())
            if (look == looks.last()) {
                (ShadowDialog.getLatestDialog() as AlertDialog).getButton(AlertDialog.BUTTON_POSITIVE).performClick()
                await("the deletion") { app.data.find("my-letters") == null && !text(screen.get(), "my-letters") }
            }
            screen.close()
        }
    }

    private fun loaded(root: View) = root.requireViewById<Spinner>(R.id.bundle).count == 1

    private fun freeMemory(app: TrainerApp) {
        val memory = ActivityManager.MemoryInfo()
        memory.availMem = 412_000L shl 10
        memory.totalMem = 7_700_000L shl 10
        shadowOf(app.getSystemService(ActivityManager::class.java)).setMemoryInfo(memory)
    }

    private fun pick(screen: Activity, files: List<Uri>) {
        screen.requireViewById<View>(R.id.add_files).performClick()
        Documents.answer(screen, files)
        await("the files") { text(screen, "diary.txt") && screen.requireViewById<View>(R.id.make).isEnabled }
    }

    private fun fill(app: TrainerApp) {
        TextData(app.folders).make("my-letters", app.bundles.require("words"), listOf("hello there, how are you? ".repeat(60)))
        val running = Fixtures.create(app, "smollm2-chat", Fixtures.reference.copy(steps = 400, gradientAccumulation = 4))
        running.trace.writeText(trace(running, 260))
        running.adapter.writeBytes(ByteArray(10))
        app.runs.save(running.copy(state = RunState.PAUSED, step = 260, created = 4))
        Fixtures.create(app, "not-yet").let { app.runs.save(it.copy(created = 3)) }
        val failed = Fixtures.create(app, "diary")
        failed.trace.writeText(trace(failed, 1))
        val reason = "cannot write trace.jsonl: No space left on device. Free some storage and resume (the state of step 1 is kept)"
        app.runs.save(failed.copy(state = RunState.FAILED, reason = reason, step = 1, created = 2))
        val completed = Fixtures.create(app, "letters-to-grandma")
        completed.trace.writeText(trace(completed, 8))
        completed.adapter.writeBytes(ByteArray(10))
        app.runs.save(completed.copy(state = RunState.COMPLETED, step = 8, created = 1, outcome = Outcome(3.4, 1.972, 6, true)))
    }

    /** A trace as the engine writes it, with a curve that looks like one. */
    private fun trace(run: Run, steps: Int): String = buildString {
        append("""{"type":"run","version":1,"bundle":{"adapter_parameters":2442240},"device":{"memory_available_kib":412000}}""").append('\n')
        for (step in 1..steps) {
            val loss = 1.9 + 1.4 * exp(-step / 60.0) + 0.12 * sin(step * 1.7) * exp(-step / 200.0)
            val peak = 138_000 + (2500 * sin(step * 0.9)).toInt() + if (step == 120) 21_000 else 0
            val numbers = """"seconds":1.6,"loss":$loss,"tokens":1010,"labelled":700,"peak":$peak"""
            append("""{"type":"step","step":$step,"t":${step * 1_600_000_000L},$numbers}""").append('\n')
            if (step == 90) append("""{"type":"event","t":1,"event":"paused","detail":"Battery at 18 %, goes on at 25 %"}""").append('\n')
        }
        if (steps > 100) append("""{"type":"event","t":2,"event":"paused","detail":"by the user"}""").append('\n')
        check(run.name.isNotEmpty())
    }
}
