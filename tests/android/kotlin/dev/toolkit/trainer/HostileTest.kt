package dev.toolkit.trainer

import android.content.Intent
import android.view.View
import android.widget.Button
import dev.toolkit.trainer.Fixtures.await
import dev.toolkit.trainer.Pictures.text
import dev.toolkit.trainer.service.AutomationService
import dev.toolkit.trainer.service.TrainingService
import dev.toolkit.trainer.store.BUNDLE_FORMAT_VERSION
import dev.toolkit.trainer.store.RunState
import dev.toolkit.trainer.ui.MainActivity
import dev.toolkit.trainer.ui.RunActivity
import org.json.JSONObject
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Before
import org.junit.Rule
import org.junit.Test
import org.junit.rules.TemporaryFolder
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.android.controller.ActivityController
import java.io.File

/** What goes wrong is one clear message on the screen, and what was there before is there afterwards. */
@RunWith(RobolectricTestRunner::class)
class HostileTest {
    @get:Rule val temporary = TemporaryFolder()
    private lateinit var app: TrainerApp
    private lateinit var first: ActivityController<MainActivity>
    private lateinit var before: Map<String, List<Byte>>

    @Before
    fun deploy() {
        app = Fixtures.deploy(temporary)
        Fixtures.create(app, "kept")
        app.controller.start("kept")
        assertTrue(app.controller.join(60_000))
        before = files()
        first = Robolectric.buildActivity(MainActivity::class.java).setup()
        await("the list") { text(first.get(), "kept") }
    }

    private fun files(): Map<String, List<Byte>> =
        app.folders.runs.walk().filter(File::isFile).associate { it.path to it.readBytes().toList() }

    private fun ask(vararg changes: Pair<String, String>) {
        val extras = mapOf("run" to "a", "bundle" to "tiny", "data" to "rows", "steps" to "3") + changes
        val intent = Intent(AutomationService.TRAIN).putExtra("request", "1")
        extras.forEach { (name, value) -> intent.putExtra(name, value) }
        Robolectric.buildService(AutomationService::class.java, intent).create().startCommand(0, 1).also { Fixtures.settle(app) }.destroy()
    }

    private fun assertSaid(vararg words: String) {
        await("the message ${words.toList()}") { words.all { text(first.get(), it) } }
        assertTrue(first.get().requireViewById<View>(R.id.refusal).isShown)
        assertEquals("nothing is lost, nothing is left behind", before, files())
        first.get().requireViewById<Button>(R.id.refusal_dismiss).performClick()
        await("the message to go") { !first.get().requireViewById<View>(R.id.refusal).isShown }
    }

    @Test
    fun `paths that lead elsewhere`() {
        for (option in listOf("run", "bundle", "data")) {
            ask(option to "../../databases")
            assertSaid("request from the computer", "cannot name a")
        }
    }

    @Test
    fun `missing, incomplete and foreign models`() {
        val bundle = File(Fixtures.deployed(), "bundles/tiny")
        ask("bundle" to "gone")
        assertSaid("There is no bundle “gone” on this phone")
        val manifest = File(bundle, "manifest.json")
        val whole = manifest.readText()
        manifest.writeText(JSONObject(whole).put("format_version", 99).toString())
        ask()
        assertSaid("format version 99, this app reads $BUNDLE_FORMAT_VERSION")
        manifest.writeText(whole.take(100))
        ask()
        assertSaid("its manifest cannot be read")
        manifest.writeText(whole)
        File(bundle, "base.ptd").let { it.writeBytes(it.readBytes().copyOf(100)) }
        ask()
        assertSaid("base.ptd has 100 bytes instead of")
    }

    @Test
    fun `values out of range and unknown requests`() {
        ask("steps" to "-1")
        assertSaid("Steps must be")
        ask("lr" to "1e999")
        assertSaid("The option lr is no number")
        val unknown = Intent("dev.toolkit.trainer.automation.FORMAT")
        Robolectric.buildService(AutomationService::class.java, unknown).create().startCommand(0, 1).also { Fixtures.settle(app) }.destroy()
        assertSaid("This action is not known")
    }

    @Test
    fun `a request that works takes an old message away`() {
        ask("bundle" to "gone")
        await("the message") { first.get().requireViewById<View>(R.id.refusal).isShown }
        ask()
        val service = Robolectric.buildService(TrainingService::class.java).create()
        service.get().onStartCommand(shadowOf(app).nextStartedService, 0, 1)
        Fixtures.settle(app)
        await("the end") { app.controller.active == null && app.runs.require("a").state == RunState.COMPLETED }
        assertFalse(first.get().requireViewById<View>(R.id.refusal).isShown)
        service.destroy()
    }

    @Test
    fun `a run whose model is gone says so on its page and goes on once it is back`() {
        val bundle = File(Fixtures.deployed(), "bundles/tiny")
        val aside = File(temporary.root, "aside")
        Fixtures.create(app, "a")
        assertTrue(bundle.renameTo(aside))
        val service = Robolectric.buildService(TrainingService::class.java).create()
        val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, "a")).setup()
        await("the page") { text(page.get(), "Not started") }
        val button = page.get().requireViewById<Button>(R.id.primary)
        repeat(2) { button.performClick() }
        generateSequence { shadowOf(app).nextStartedService }.forEach { service.get().onStartCommand(it, 0, 1) }
        Fixtures.settle(app)
        await("the reason") { text(page.get(), "There is no bundle “tiny” on this phone") }
        assertTrue(aside.renameTo(bundle))
        button.performClick()
        generateSequence { shadowOf(app).nextStartedService }.forEach { service.get().onStartCommand(it, 0, 1) }
        Fixtures.settle(app)
        await("the end") { text(page.get(), "Completed") }
        assertFalse(text(page.get(), "There is no bundle"))
        assertArrayEquals(Fixtures.referenceAdapter(), Fixtures.adapter(app.runs.require("a")))
        page.close()
        service.destroy()
    }

    @Test
    fun `a page of a run that does not exist closes`() {
        for (name in listOf("gone", "../../x", "")) {
            val page = Robolectric.buildActivity(RunActivity::class.java, RunActivity.intent(app, name)).setup()
            await("the end of the page of “$name”") { page.get().isFinishing }
        }
        assertTrue(Robolectric.buildActivity(RunActivity::class.java, Intent()).create().get().isFinishing)
    }
}
